"""Rows that no run learns, and on which rows, parameters or an alpha were chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from knowtune.common.files import write_rows
from knowtune.lineage.artefacts import Layout, make_graph
from knowtune.lineage.row import Rows
from knowtune.lineage.words import row_lines, version_line

LAYOUT = Layout(prepared="prepared", selected="selected", merged="merged", mixed="mixed", rehearsed="rehearsed")
PROTECT = {"protect": {"from": ["known", "text", "self"]}}
PARAMS: dict[str, Any] = {
    "filters": {"everything": {"strategy": ["everything"]}},
    "selections": {
        "all": {"filter": "everything", "strategy": "everything"},
        "spare": {"filter": "everything", "strategy": "magnitude", "options": PROTECT},
        "search": {"filter": "everything", "strategy": "ird", "trial": {"epochs": 1}},
    },
    "runs": {
        "plain": {"selection": "all", "method": "lora"},
        "spares": {"selection": "spare", "method": "fish"},
        "searches": {"selection": "search", "method": "fish"},
    },
    "mixtures": {
        "half": {"from": ["plain"], "strategy": "interpolate", "options": {"alpha": 0.5}},
        "best": {"from": ["plain"], "strategy": "interpolate", "options": {"alpha": [0.5, 1.0]}},
    },
}


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """One row in each table: the base has `right` of replay right, and `wrong` wrong."""
    for path, ids in {
        "prepared/validation": ["held out"],
        "prepared/replay": ["right", "wrong"],
        "prepared/replay_texts": ["text"],
        "rehearsed/known": ["right"],
    }.items():
        write_rows(tmp_path / f"{path}.jsonl", pd.DataFrame({"id": ids, "text": ids}))

    def find(path: str) -> Path | None:
        return tmp_path / path if (tmp_path / path).is_file() else None

    return Rows(make_graph(PARAMS, LAYOUT, find), LAYOUT, find)


@pytest.mark.parametrize(
    ("row", "chosen"),
    [
        ("right", ["spares/seed-0", "best/seed-0"]),  # protected, and an alpha was chosen on it
        ("wrong", ["best/seed-0"]),
        ("text", ["spares/seed-0"]),
        ("held out", ["searches/seed-0", "best/seed-0"]),
    ],
)
def test_what_was_chosen_with_a_row_has_to_be_made_anew_without_it(row: str, chosen: list[str], rows: Rows) -> None:
    trace = rows.trace(row)
    assert (trace["chosen_with"], trace["retrain"]) == (chosen, [])
    *_, last = row_lines(trace)
    assert last.startswith("not learned, but chosen with its help; if it goes, choose again and make anew: ")
    assert not any("none has to be trained again" in line for line in row_lines(trace))


def test_a_part_of_the_graph_knows_what_of_it_was_chosen_with_a_row(rows: Rows) -> None:
    best, half = (rows.graph.back([rows.graph.nodes[f"mixture {name}/seed-0"]]) for name in ("best", "half"))
    assert [node.name for node in rows.helped(best, "right")] == ["best/seed-0"]
    assert rows.helped(half, "right") == []
    version = {"name": "toy/1", "aliases": [], "saw": [], "helped": True, "faults": []}
    assert version_line(version) == "  toy/1  did not see it, but was chosen with its help"
