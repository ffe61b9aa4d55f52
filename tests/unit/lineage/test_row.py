from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knowtune.common.errors import UserError
from knowtune.lineage.graph import Graph
from knowtune.lineage.row import Rows
from knowtune.lineage.words import row_lines
from tests.unit.lineage.conftest import LAYOUT


def saw(trace: dict[str, Any]) -> dict[str, list[str]]:
    return {run["name"]: run["saw"] for run in trace["runs"] if run["saw"]}


def test_a_chosen_row_reaches_every_run_with_its_weight_and_score(rows: Rows) -> None:
    trace = rows.trace("a")
    assert list(trace["tables"]) == ["train", "test"]
    assert trace["answer"] == {"answer": "Y", "correct": False, "distance": 0.5}
    assert trace["filters"] == [{"name": "clean", "kept": True, "distance": 0.5, "cosine": 0.25}]
    assert {s["score"] for s in trace["selections"]} == {4.0}
    assert set(saw(trace)) == {f"{run}/seed-{s}" for run, s in (("all", 0), ("all", 1), ("all", 2))} | {
        "few/seed-0", "few/seed-1", "start/seed-0", "keeps/seed-0",
    }  # fmt: skip
    assert {run["weight"] for run in trace["runs"] if run["name"].startswith("all")} == {1.5}
    assert {"kind": "mixture", "name": "soup/seed-0", "path": "mixed/soup/seed-0"} in trace["models"]
    assert trace["chosen_with"] == []


def test_a_row_that_was_not_chosen_is_seen_by_runs_on_all_rows_and_by_warm_ups(rows: Rows) -> None:
    trace = rows.trace("b")
    assert saw(trace) == {
        **{f"all/seed-{seed}": ["trained"] for seed in range(3)},
        "start/seed-0": ["warm-up of the selection's adapter"],
    }
    assert trace["same_prompt"] == trace["same_fact"] == ["c"]
    scores = {"some/seed-0": None, "some/seed-1": 2.0, "warm/seed-0": None}  # of seed 0 it was no sample
    assert {s["name"]: s["score"] for s in trace["selections"]} == scores
    assert trace["chosen_with"] == ["few/seed-1"]  # its mask knows the row, its weights do not


def test_a_dropped_row_says_why_and_has_to_be_unlearned_by_nobody(rows: Rows) -> None:
    trace = rows.trace("c")
    (verdict,) = trace["filters"]
    assert (verdict["kept"], verdict["strategy"], verdict["reason"]) == (False, "clean", "duplicate of b")
    assert trace["noise"] == {"kind": "duplicate", "original": "X"}
    assert trace["models"] == trace["retrain"] == []
    lines = "\n".join(row_lines(trace))
    assert "dropped by clean: duplicate of b" in lines
    assert "no model learned this row" in lines


def test_a_row_that_was_kept_from_the_base_is_held_too(rows: Rows) -> None:
    trace = rows.trace("d")
    assert saw(trace) == {"keeps/seed-0": ["kept from the base"]}
    assert trace["retrain"] == ["keeps/seed-0"]
    assert "if this row goes, train again: keeps\n" in "\n".join(row_lines(trace))


def test_what_is_gone_is_unknown_and_not_unseen(graph: Graph, find: Callable[[str], Path | None]) -> None:
    rows = Rows(graph, LAYOUT, lambda path: None if path.startswith(("selected", "filtered")) else find(path))
    lines = "\n".join(row_lines(rows.trace("a")))
    assert "clean  unknown: what it wrote is gone" in lines
    assert "few    unknown: its selection is gone" in lines


def test_a_row_is_found_by_a_piece_of_its_text(rows: Rows) -> None:
    assert rows.look_up("a") == "a"
    assert rows.look_up("of chile") == "a"  # in train and test, and one row
    assert rows.look_up("Côte/I") == "d"
    with pytest.raises(UserError, match=r"2 rows contain; give an id:\n  b  \(train\)  'The capital of Peru is'"):
        rows.look_up("Peru")
    with pytest.raises(UserError, match="neither a row's id nor part of a row's text"):
        rows.look_up("Atlantis")
