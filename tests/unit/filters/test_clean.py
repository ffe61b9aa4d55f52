from __future__ import annotations

import pandas as pd
import pytest
from pydantic import ValidationError

from knowtune.filters.base import Seen
from knowtune.filters.clean import Clean
from tests.unit.helpers import answers_for, row, seen_of, table


def reasons(*pairs: tuple[str, str], **options: object) -> list[str]:
    rows = table(*(row(f"id{i}", prompt, target) for i, (prompt, target) in enumerate(pairs)))
    return Clean(**options).reasons(rows, seen_of(rows)).tolist()  # type: ignore[arg-type]


def test_sound_rows_stay() -> None:
    assert reasons(("p", "x"), ("q", "x"), ("r", "y")) == ["", "", ""]


def test_empty() -> None:
    assert reasons(("p", ""), ("q", "  "), ("r", "x")) == ["empty: the target has no text"] * 2 + [""]
    assert reasons(("p", ""), ("r", "x"), empty=False) == ["", ""]


def test_of_duplicates_the_first_stays() -> None:
    assert reasons(("p", "x"), ("q", "x"), ("p", "x"), ("p", "x")) == ["", "", "duplicate: of id0", "duplicate: of id0"]
    assert reasons(("p", "x"), ("p", "x"), duplicates=False) == ["", ""]


def test_blanks_and_case_make_no_difference() -> None:
    assert reasons(("The  CAPITAL is", "Rome"), (" the capital is ", "ROME ")) == ["", "duplicate: of id0"]
    assert reasons(("p", "Straße"), ("p", "STRASSE")) == ["", "duplicate: of id0"]


def test_of_a_contradiction_every_row_goes() -> None:
    two = "contradiction: this prompt has 2 targets"
    assert reasons(("p", "x"), ("q", "x"), ("p", "y")) == [two, "", two]
    assert reasons(("p", "x"), ("p", "y"), ("p", "z")) == ["contradiction: this prompt has 3 targets"] * 3
    assert reasons(("p", "x"), ("p", "y"), contradictions=False) == ["", ""]


def test_a_majority_settles_a_contradiction() -> None:
    two = "contradiction: this prompt has 2 targets"
    pairs = [("p", "x"), ("p", "y"), ("p", "x"), ("p", "x")]
    assert reasons(*pairs, majority=0.75) == ["", two, "duplicate: of id0", "duplicate: of id0"]
    assert reasons(*pairs, majority=0.76) == [two] * 4
    assert reasons(*pairs) == [two] * 4
    assert reasons(*pairs, majority=0.75, duplicates=False) == ["", two, "", ""]


def test_half_is_no_majority() -> None:
    two = "contradiction: this prompt has 2 targets"
    assert reasons(("p", "x"), ("p", "y"), majority=0.51) == [two, two]


def test_dropped_rows_are_no_party_to_a_contradiction() -> None:
    empty = "empty: the target has no text"
    assert reasons(("p", ""), ("p", "x")) == [empty, ""]


def test_another_second_text_is_another_question() -> None:
    rows = table(row("a", "p", "x", pair="one"), row("b", "p", "y", pair="two"), row("c", "P ", "x", pair=" ONE"))
    assert Clean().reasons(rows, seen_of(rows)).tolist() == ["", "", "duplicate: of a"]


def test_where_a_text_ends_and_the_second_begins_makes_a_difference() -> None:
    rows = table(row("a", "p q", "x", pair="r"), row("b", "p", "y", pair="q r"))
    assert Clean().reasons(rows, seen_of(rows)).tolist() == ["", ""]


def test_an_index_that_does_not_start_at_zero() -> None:
    rows = table(row("a", "p", ""), row("b", "q", "x"), row("c", "q", "x")).set_axis([7, 3, 9])
    found = Clean().reasons(rows, seen_of(rows))
    assert found.to_dict() == {7: "empty: the target has no text", 3: "", 9: "duplicate: of b"}


def test_rows_and_answers_are_not_touched() -> None:
    rows = table(row("a", "p", ""), row("b", "P", "x"))
    answers = answers_for(rows)
    before = rows.copy(), answers.copy()
    Clean().reasons(rows, Seen(answers))
    pd.testing.assert_frame_equal(rows, before[0])
    pd.testing.assert_frame_equal(answers, before[1])


@pytest.mark.parametrize("majority", [0.5, 1.01, "1"])
def test_the_bounds_of_majority(majority: object) -> None:
    with pytest.raises(ValidationError, match="majority"):
        Clean(majority=majority)  # type: ignore[arg-type]


def test_unicode_forms_make_no_difference() -> None:
    composed, decomposed = "S\u00e3o Tom\u00e9 is", "Sa\u0303o Tome\u0301 is"
    assert reasons((composed, "x"), (decomposed, "x")) == ["", "duplicate: of id0"]
    assert reasons(("a \u2018b\u2019", "x"), ("a 'b'\u200b", "y")) == ["contradiction: this prompt has 2 targets"] * 2


def several(*rows: tuple[str, str, str], **options: object) -> list[str]:
    made = table(*(row(f"id{i}", prompt, target) for i, (prompt, target, _) in enumerate(rows)))
    made["aliases"] = [aliases for *_, aliases in rows]
    return Clean(**options).reasons(made, seen_of(made)).tolist()  # type: ignore[arg-type]


def test_rows_that_name_the_same_right_answers_do_not_contradict_each_other() -> None:
    two = "contradiction: this prompt has 2 targets"
    assert several(("p", "x", "y\nz"), ("p", "y", "Z \nx"), ("p", "z", "x\ny")) == ["", "", ""]
    assert several(("p", "x", "y"), ("p", "y", "")) == [two, two]
    assert several(("p", "x", "a"), ("p", "x", "b"), ("q", "y", "x")) == ["", "duplicate: of id0", ""]
    three = "contradiction: this prompt has 3 targets"
    assert several(("p", "x", "y"), ("p", "y", "x"), ("p", "w", "x\ny")) == [three] * 3
    assert several(("p", "x", "y"), ("p", "y", "x"), ("p", "w", "x\ny"), majority=0.6) == ["", "", three]
    assert several(("p", "x", "y"), ("p", "y", "x"), ("p", "x", "y")) == ["", "", "duplicate: of id0"]
