from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.core.params import load_params, write_yaml
from tests.unit.stages.core.test_params import DEFAULT, classifies, message

FACTS: dict[str, Any] = {"kind": "facts", "path": "c.jsonl", "columns": {"prompt": "q", "target": "a"}}
TEXT: dict[str, Any] = {"kind": "text", "path": "t.jsonl", "column": "text"}
LABELS: dict[str, Any] = {**FACTS, "kind": "classification", "labels": ["bad", "good"]}


def sets(**named: Any) -> Callable[[dict[str, Any]], object]:
    return lambda params: params["evaluate"].update(retention=named)


def facts(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return sets(capitals={**FACTS, **changes})


CASES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (
        facts(kind="fact"),
        "evaluate.retention.capitals.kind: got 'fact'; allowed: 'text', 'facts', 'classification', 'harness'; did",
    ),
    (
        facts(max_row=2),
        "capitals.max_row: got an unknown key; allowed: column, columns, filter, kind, labels, max_rows",
    ),
    (facts(max_rows=0), "evaluate.retention.capitals.max_rows: got 0; allowed: greater than or equal to 1"),
    (facts(columns={"prompt": "q"}), "evaluate.retention.capitals.columns.target: got nothing; allowed: a value"),
    (facts(columns={"prompt": "{q", "target": "a"}), "evaluate.retention.capitals.columns.prompt: got '{q' (expected"),
    (
        facts(columns={"prompt": "q", "target": "{}"}),
        "evaluate.retention.capitals.columns.target: got '{}'; allowed: a",
    ),
    (facts(path="."), "evaluate.retention.capitals.path: got '.'; allowed: a file or folder of its own"),
    (facts(path="data/hub/x/c.jsonl"), "evaluate.retention.capitals.path: got 'data/hub/x/c.jsonl'; allowed: an entry"),
    (sets(capitals={**LABELS, "labels": ["a"]}), "capitals.labels: got ['a']; allowed: a list of at least 2"),
    (sets(capitals={**LABELS, "labels": ["a", "a"]}), "capitals.labels: got ['a', 'a']; allowed: each once"),
    (sets(forgotten=TEXT), "evaluate.retention.forgotten: got the name of a metric; allowed: another name"),
    (sets(parity=TEXT), "evaluate.retention.parity: got the name of a column of the leaderboard; allowed: another"),
    (sets(texts=TEXT), "evaluate.retention.texts: got the name of a part of the evaluation; allowed: another name"),
    (sets(**{"a.b": TEXT}), "evaluate.retention.a.b: got 'a.b'; allowed: a name of letters, digits, _ and -"),
    (lambda p: p["evaluate"].update(retention=None), "evaluate.retention: got None; allowed: a valid dictionary"),
    (
        lambda p: classifies(p) or sets(capitals=TEXT)(p),
        "evaluate.retention: got sets for a model that writes, where task.kind is 'classification'; allowed: no sets; ",
    ),
]


@pytest.mark.parametrize(("edit", "expected"), CASES)
def test_every_fault_has_its_line(edit: Callable[[dict[str, Any]], object], expected: str, tmp_path: Path) -> None:
    lines = message(tmp_path, edit)
    assert [line for line in lines if expected in line], lines


def test_sets_of_every_kind_are_good(tmp_path: Path) -> None:
    retention = {"capitals": FACTS, "stories": TEXT, "mood": LABELS}
    params = {**DEFAULT, "evaluate": {**DEFAULT["evaluate"], "retention": retention}}
    write_yaml(tmp_path / "params.yaml", params)
    found = load_params(tmp_path / "params.yaml").evaluate.retention
    assert [section.kind for section in found.values()] == ["facts", "text", "classification"]


def test_they_may_be_left_out() -> None:
    assert "retention" not in DEFAULT["evaluate"]
