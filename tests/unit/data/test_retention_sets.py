from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.data.contract import ROW_COLUMNS
from knowtune.data.retention_sets import SetFile, read_set, refuse_known_rows
from tests.unit.helpers import row, table

COLUMNS = {
    "id": None,
    "fact": None,
    "relation": "about",
    "subject": None,
    "template": None,
    "prompt": "q",
    "target": "a",
}
CAPITALS = [
    {"q": "The capital of Chile is", "a": "Santiago", "about": "capital"},
    {"q": "The capital of Peru is", "a": ["Lima", "Lima city"], "about": "capital"},
]


def set_file(path: Path, records: list[dict[str, Any]], **changes: Any) -> SetFile:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return SetFile(**{"name": "capitals", "path": path, "columns": COLUMNS, **changes})


def test_rows_are_those_of_the_contract(base: Base, tmp_path: Path) -> None:
    rows, rejected = read_set(set_file(tmp_path / "c.jsonl", CAPITALS), base)
    assert rows.columns.tolist() == ROW_COLUMNS
    assert rows[["prompt", "target", "aliases", "relation"]].to_dict("records") == [
        {"prompt": "The capital of Chile is ", "target": "Santiago", "aliases": "", "relation": "capital"},
        {"prompt": "The capital of Peru is ", "target": "Lima", "aliases": "Lima city", "relation": "capital"},
    ]
    assert rejected.empty


def test_what_cannot_be_used_is_rejected_with_its_reason(base: Base, tmp_path: Path) -> None:
    bad = [{"q": "The capital of Rome is", "a": "", "about": "x"}, {"q": "long " * 80, "a": "b", "about": "x"}]
    rows, rejected = read_set(set_file(tmp_path / "c.jsonl", [*CAPITALS, *bad]), base)
    assert len(rows) == 2
    where = "evaluate.retention.capitals: "
    assert rejected["reason"].str.startswith(where).all()
    assert rejected["reason"].str.removeprefix(where).str.replace(r"\d+", "N", regex=True).tolist() == [
        "the target is empty", "N tokens, and the base's context is N",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"evaluate.retention.capitals: \S+c.jsonl: no row can be used \(.*is empty\)"):
        read_set(set_file(tmp_path / "c.jsonl", bad[:1]), base)


def test_texts(base: Base, tmp_path: Path) -> None:
    file = set_file(tmp_path / "t.jsonl", [{"s": "One."}, {"s": " "}, {"s": "Two."}], columns={"text": "s"})
    rows, rejected = read_set(file, base)
    assert rows.to_dict("records") == [{"id": "capitals:0", "text": "One."}, {"id": "capitals:2", "text": "Two."}]
    assert rejected["reason"].tolist() == ["evaluate.retention.capitals: the text is empty"]


def test_labels_are_read_by_name_or_number(base: Base, tmp_path: Path) -> None:
    records = [{"q": "It was", "a": 1, "about": ""}, {"q": "He was", "a": "bad", "about": ""}]
    file = set_file(tmp_path / "l.jsonl", records, labels=["bad", "good"])
    assert read_set(file, base)[0]["target"].tolist() == ["good", "bad"]
    file = set_file(tmp_path / "l.jsonl", [{"q": "It was", "a": "fine", "about": ""}], labels=["bad", "good"])
    message = r"l.jsonl: line 1: a: got 'fine'; allowed: 0 or 'bad', 1 or 'good' \(the set's `labels`\)"
    with pytest.raises(UserError, match=message):
        read_set(file, base)


def test_as_many_as_are_wanted_and_a_draw_of_more_contains_one_of_fewer(base: Base, tmp_path: Path) -> None:
    records = [{"q": f"The number after {i} is", "a": "x", "about": ""} for i in range(20)]
    few, more, all_ = (
        set(read_set(set_file(tmp_path / "c.jsonl", records, max_rows=num), base)[0]["prompt"]) for num in (4, 9, None)
    )
    assert (len(few), len(more), len(all_)) == (4, 9, 20)
    assert few < more < all_


class TestOverlap:
    rows = table(row("a", "The capital of Chile is ", "Santiago", fact="c:1"), row("b", "B is ", "c", fact="c:2"))

    def refuse(self, other: pd.DataFrame, rows: pd.DataFrame = rows, **columns: Any) -> None:
        file = SetFile("capitals", Path("c.jsonl"), {**COLUMNS, **columns})
        refuse_known_rows(file, rows, {"are trained": other, "may be replayed": other.head(0)}, {})

    def test_none(self) -> None:
        self.refuse(table(row("a", "The capital of Chile was ", "Santiago", fact="c:1")))

    def test_of_a_prompt_in_another_spelling(self) -> None:
        message = r"(?s)capitals: c.jsonl: rows would say .* take them out.*1 of 2 rows are trained too, e.g. 'a'$"
        with pytest.raises(UserError, match=message):
            self.refuse(table(row("x", "the capital of  chile is", "Rome", fact="y")))

    def test_of_a_fact_where_the_set_names_it(self) -> None:
        with pytest.raises(UserError, match=r"1 of 2 rows are trained too, e.g. 'b'$"):
            self.refuse(table(row("x", "Another prompt ", "c", fact="C:2")), fact="fact")

    def test_of_a_text(self) -> None:
        texts = pd.DataFrame({"id": ["t", "u"], "text": ["One.", "Two."]})
        with pytest.raises(UserError, match=r"1 of 2 rows are replayed texts too, e.g. 'u'$"):
            file = SetFile("t", Path("t.jsonl"), {"text": "text"})
            refuse_known_rows(file, texts, {}, {"replayed texts": pd.DataFrame({"id": ["v"], "text": ["two. "]})})
