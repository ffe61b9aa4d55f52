from __future__ import annotations

from typing import Any

import pytest

from cli.overrides import override
from knowtune.common.errors import UserError


def test_values_are_put_in_by_dotted_names() -> None:
    raw: dict[str, Any] = {"runs": {"lora": {"options": {"rank": 16}}}, "threads": 2}
    override(raw, {"runs.lora.options.rank": 32, "runs.lora.seeds": [0], "threads": 1}, "params")
    assert raw == {"runs": {"lora": {"options": {"rank": 32}, "seeds": [0]}}, "threads": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("runs.lroa.rank", "params: runs.lroa.rank: nothing is called 'lroa' in runs; did you mean 'lora'?"),
        ("rusn.lora", "params: rusn.lora: nothing is called 'rusn' in params.yaml; did you mean 'runs'?"),
        ("threads.n", "params: threads.n: threads is a value, and holds no 'n'"),
        ("threads.n.m", "params: threads.n.m: nothing is called 'n' in threads"),
    ],
)
def test_a_name_that_leads_nowhere_is_named(name: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        override({"runs": {"lora": {}}, "threads": 2}, {name: 1}, "params")
    assert str(caught.value) == text
