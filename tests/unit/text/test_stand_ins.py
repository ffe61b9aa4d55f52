from __future__ import annotations

from typing import Any

import pytest

from knowtune.text.messages import UnusableError
from knowtune.text.stand_ins import FIRST, StandIns


def test_what_is_hidden_is_put_back_and_what_is_not_is_the_templates(words: Any) -> None:
    stand_ins = StandIns(words)
    hidden = stand_ins.hide([{"role": "user", "content": "a [SEP] b"}])[0]["content"]
    assert "[SEP]" not in hidden
    text, ranges, positions = stand_ins.restore(f"[CLS]{hidden}")
    assert text == "[CLS]a [SEP] b"
    assert [text[start:stop] for start, stop in ranges] == ["[CLS]a ", " b"]
    assert text[: positions[len("[CLS]a ") + 1]] == "[CLS]a [SEP]"
    assert stand_ins.plain(hidden) == "a [SEP] b"


def test_a_role_stays_as_it_is(words: Any) -> None:
    assert StandIns(words).hide({"role": "[SEP]"}) == {"role": "[SEP]"}


def test_a_text_with_such_a_character_is_refused(words: Any) -> None:
    with pytest.raises(UnusableError, match="private use"):
        StandIns(words).hide(f"a{chr(FIRST)}")
