from __future__ import annotations

import pandas as pd
import pytest

from knowtune.common.errors import UserError
from knowtune.data.contract import (
    ANSWERS,
    DROPPED,
    EXAMPLES,
    REJECTED,
    ROW_COLUMNS,
    ROWS,
    SELECTED,
    TEXTS,
    check,
    column_types,
)
from tests.unit.helpers import answers_for, row, table


def test_the_columns_of_a_row() -> None:
    assert ROW_COLUMNS == [
        "id", "fact", "relation", "subject", "template", "prompt", "text_pair", "target", "aliases", "layout",
        "old",
    ]  # fmt: skip
    assert list(ROWS.columns) == ROW_COLUMNS
    assert list(EXAMPLES.columns) == [*ROW_COLUMNS, "kind"]


def test_good_rows_pass_unchanged() -> None:
    rows = table(row("a", "p", "t"), row("b", "q", ""))
    pd.testing.assert_frame_equal(check(rows, ROWS, "here"), rows)


def test_a_table_without_rows_passes_if_its_columns_are_there() -> None:
    rows = pd.DataFrame({column: [] for column in ROW_COLUMNS})
    assert check(rows, ROWS, "here") is rows
    with pytest.raises(UserError, match=r"^here: not valid training rows\n"):
        check(rows.drop(columns="prompt"), ROWS, "here")


def test_an_error_names_table_column_rule_count_and_examples() -> None:
    rows = table(*(row(str(i), "", "t") for i in range(7)), row("7", "p", "t"))
    with pytest.raises(UserError) as caught:
        check(rows, ROWS, "prepare: train")
    lines = str(caught.value).split("\n")
    assert lines[0] == "prepare: train: not valid training rows"
    assert len(lines) == 2
    assert lines[1] == (
        "  prompt: str_length(1, None) fails 7 times (row 0: '', row 1: '', row 2: '', row 3: '', row 4: '')"
    )


def test_every_fault_is_in_one_error() -> None:
    rows = table(row("a", "p", "t"), row("a", "", "t"))
    rows.loc[1, "fact"] = ""
    with pytest.raises(UserError) as caught:
        check(rows, ROWS, "x")
    text = str(caught.value)
    assert "\n  fact: str_length(1, None) fails 1 times (row 1: '')" in text
    assert "\n  id: field_uniqueness fails 2 times (row 0: 'a', row 1: 'a')" in text
    assert "\n  prompt: str_length(1, None) fails 1 times (row 1: '')" in text


@pytest.mark.parametrize("column", ROW_COLUMNS)
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(UserError, match="column_in_dataframe") as caught:
        check(table(row("a", "p", "t")).drop(columns=column), ROWS, "x")
    assert f"'{column}'" in str(caught.value)


def test_a_further_column_is_refused() -> None:
    with pytest.raises(UserError, match=r"column_in_schema fails 1 times \(row .*: 'more'\)"):
        check(table(row("a", "p", "t")).assign(more="x"), ROWS, "x")


@pytest.mark.parametrize("column", ROW_COLUMNS)
def test_null_is_refused(column: str) -> None:
    rows = table(row("a", "p", "t"), row("b", "q", "u"))
    rows.loc[1, column] = None
    with pytest.raises(UserError, match=rf"\n  {column}: not_nullable fails 1 times \(row 1: "):
        check(rows, ROWS, "x")


def test_an_item_needs_a_target_and_a_known_kind() -> None:
    good = table(row("a", "p", "t")).assign(kind="locality")
    assert len(check(good, EXAMPLES, "x")) == 1
    with pytest.raises(UserError, match=r"kind: isin.* fails 1 times \(row 0: 'portability'\)"):
        check(good.assign(kind="portability"), EXAMPLES, "x")
    with pytest.raises(UserError, match=r"target: str_length\(1, None\) fails 1 times \(row 0: ''\)"):
        check(good.assign(target=""), EXAMPLES, "x")


def test_answers_have_counts_within_bounds() -> None:
    good = answers_for(table(row("a", "p", "t")))
    assert len(check(good, ANSWERS, "x")) == 1
    with pytest.raises(UserError, match=r"num_tokens: greater_than\(0\) fails 1 times \(row 0: 0\)"):
        check(good.assign(num_tokens=0), ANSWERS, "x")


def test_the_other_tables_name_themselves() -> None:
    one = table(row("a", "p", "t"))
    assert len(check(one.assign(reason="r"), REJECTED, "x")) == 1
    assert len(check(one.assign(prompt="", target="", reason="r"), REJECTED, "x")) == 1
    assert len(check(one.assign(distance=0.5, strategy="s", reason="r"), DROPPED, "x")) == 1
    assert len(check(one.assign(distance=None, score=1.0, chosen=True), SELECTED, "x")) == 1
    assert len(check(pd.DataFrame({"id": ["a"], "text": ["b"]}), TEXTS, "x")) == 1
    for schema, name in (
        (REJECTED, "rejected rows"),
        (DROPPED, "dropped rows"),
        (SELECTED, "selected rows"),
        (TEXTS, "retention texts"),
    ):
        with pytest.raises(UserError, match=f"^there: not valid {name}\n"):
            check(pd.DataFrame({"other": [1]}), schema, "there")


def test_types_of_columns_in_plain_words() -> None:
    assert column_types(ANSWERS) == {
        "id": "string", "answer": "string", "correct": "bool", "num_tokens": "int64", "distance": "float64"
    }  # fmt: skip
    assert column_types(ROWS, ["id", "target"]) == {"id": "string", "target": "string"}
