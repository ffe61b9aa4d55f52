from __future__ import annotations

import pandas as pd

from knowtune.data.same_prompt import prompt_keys
from tests.unit.helpers import row, table


def test_a_spelling_makes_no_other_prompt() -> None:
    rows = table(
        row("a", "The  capital of Peru is", "x"), row("b", "the capital of peru is ", "y"), row("c", "No", "z")
    )
    keys = prompt_keys(rows)
    assert (keys[0] == keys[1], keys[0] == keys[2]) == (True, False)
    assert keys.index.equals(rows.index)


def test_a_second_text_makes_another_prompt_wherever_the_first_ends() -> None:
    rows = table(*(row(name, "a", "x") for name in "abc")).assign(text_pair=["", "b", "c"])
    assert prompt_keys(rows).is_unique


def test_no_rows() -> None:
    keys = prompt_keys(table())
    assert (len(keys), keys.dtype) == (0, pd.Series([0]).dtype)
