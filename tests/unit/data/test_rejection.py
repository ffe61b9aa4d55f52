"""Each reason that knowtune.data.rejection names, and a row that has it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from knowtune.checkpoints.base import Base
from knowtune.data import rejection
from knowtune.data.column_mapping import reader_for
from knowtune.data.contract import ROLES
from knowtune.data.raw import Raw, texts_table
from tests.unit.helpers import TASK, row, table

MAPPING: dict[str, Any] = {
    **dict.fromkeys(("id", "fact", "relation", "subject", "template")), "prompt": "q", "target": "a",
}  # fmt: skip
CASE: dict[str, Any] = {
    "id": None, "relation": None, "subject": None, "prompt": "q", "target": "a", "old": "o", "paraphrases": None,
    "locality_prompt": None, "locality_target": None,
}  # fmt: skip


def judged(base: Base, **cells: str) -> list[str]:
    """Give the reasons of one training row."""
    rows = table(row("a", "Ada lives in ", "Oslo")).assign(reason="")
    _, rejected = rejection.judge_rows(rows.assign(**cells), base, "train")
    return rejected["reason"].tolist()


def test_a_sound_row_has_no_reason(base: Base) -> None:
    assert judged(base) == []


def test_the_prompt_or_target_is_empty(base: Base) -> None:
    assert judged(base, target=" ") == [f"train: {rejection.EMPTY_TARGET}"]
    assert judged(base, prompt=" \n") == [f"train: {rejection.EMPTY_PROMPT}"]


def test_the_row_does_not_fit(base: Base) -> None:
    (reason,) = judged(base, prompt="a, " * base.context)
    number = int(reason.split()[1])
    assert number > base.context
    assert reason == "train: " + rejection.TOO_LONG.format(number, base.context)


def test_answers_stand_one_a_line() -> None:
    read = reader_for(MAPPING, TASK, None)
    assert [one.reason for one in read({"q": "p", "a": ["x", "y\nz"]})] == [rejection.LINE_BREAK_IN_ALIAS]
    read = reader_for(CASE, TASK, None)
    assert [one.reason for one in read({"q": "p", "a": "x", "o": "y\nz"})] == [rejection.LINE_BREAK_IN_OLD]
    assert [one.reason for one in read({"q": "p", "a": ["x", "y\nz"], "o": "y\nz"})] == [rejection.LINE_BREAK_IN_ALIAS]
    assert [one.reason for one in read({"q": "p", "a": ["x", "y"], "o": "z"})] == [""]


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ({"prompt": "a", "target": "b"}, ""),
        ({"prompt": "a\0", "target": "b"}, "prompt: it has a NUL character"),
        ({"prompt": "a\0", "target": "\ud83d"},
         "prompt: it has a NUL character; target: it has half of a character (the lone surrogate \\ud83d)"),
    ],
)  # fmt: skip
def test_cells_that_cannot_be_stored_are_named(cells: dict[str, str], fault: str) -> None:
    assert rejection.fault_of_cells(cells) == fault


def test_texts_are_kept_or_rejected() -> None:
    kept, rejected = rejection.reject_texts(texts_table(["It rained.", " ", "a\0"]))
    assert kept.to_dict("records") == [{"id": "text:0", "text": "It rained."}]
    assert rejected["reason"].tolist() == [f"retention: {rejection.EMPTY_TEXT}", "retention: it has a NUL character"]
    assert rejection.reject_texts(texts_table([""]), "replay text")[1]["reason"].tolist() == [
        f"replay text: {rejection.EMPTY_TEXT}"
    ]


def test_leaks_are_rejected_by_role() -> None:
    tables = {
        "train": table(row("a", "p1", "x", fact="f")),
        "validation": table(row("b", "p2", "x", fact="g")),
        "test": table(row("c", "P1", "x", fact="f"), row("d", "p3", "x", fact="f")),
        "known": table(row("e", "p1 ", "x", fact="k"), row("g", "p4", "x", fact="k")),
        "replay": table(row("h", "p5", "x", fact="k")),
    }
    kept, rejected = rejection.reject_leaks(tables, by_fact=True)
    assert {role: rows["id"].tolist() for role, rows in kept.items()} == {
        "train": ["a"], "validation": [], "test": ["d"], "known": ["g"], "replay": ["h"],
    }  # fmt: skip
    assert dict(pd.concat(rejected)[["id", "reason"]].itertuples(index=False, name=None)) == {
        "b": f"validation: {rejection.UNTRAINED_FACT}",
        "c": f"test: {rejection.TRAINED_PROMPT}",
        "e": f"known: {rejection.TRAINED_PROMPT}",
    }


def test_without_facts_other_facts_may_be_tested() -> None:
    tables = {role: table(row(role, role, "x", fact=role)) for role in ROLES}
    kept, rejected = rejection.reject_leaks(tables, by_fact=False)
    assert (sum(map(len, kept.values())), sum(map(len, rejected))) == (5, 0)


def test_a_raw_source_names_its_tables_by_role() -> None:
    assert set(ROLES) <= set(Raw.__dataclass_fields__)
