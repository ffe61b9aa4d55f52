from __future__ import annotations

import pytest

from knowtune.data.base_answers import begins_right


@pytest.mark.parametrize(
    ("answer", "rights", "right"),
    [
        ("Rome. It is", ["Rome"], True),
        ("\n rome", ["Rome"], True),
        ("In Rome", ["Rome"], False),
        ("Paris", ["Rome", "Paris"], True),
        ("Paris", ["", " "], False),
        ("", ["Rome"], False),
    ],
)
def test_begins_right(answer: str, rights: list[str], right: bool) -> None:
    assert begins_right(answer, rights) is right
