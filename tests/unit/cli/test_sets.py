from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cli.sets import faults_of_sets

FACTS: dict[str, Any] = {
    "kind": "facts",
    "path": "c.jsonl",
    "columns": {"prompt": "Q: {q}", "target": "a", "fact": ["r", "s"]},
}
GOOD = '{"q": "x", "a": "y", "r": "r", "s": "s"}\n'


def faults(folder: Path, **changes: Any) -> list[str]:
    return [str(fault) for fault in faults_of_sets({"evaluate": {"retention": {"x": {**FACTS, **changes}}}}, folder)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, None),
        (
            "",
            "evaluate.retention.x.path: got 'c.jsonl' ({path}: the file is empty; it needs at least one row); allowed",
        ),
        (
            GOOD + '{"question": "x", "a": "y", "r": "r", "s": "s"}\n',
            "evaluate.retention.x.columns.prompt: got 'q', and line 2 of c.jsonl has question, a, r, s; allowed: a",
        ),
        (
            GOOD.replace('"s":', '"t":'),
            "x.columns.fact: got 's', and line 1 of c.jsonl has q, a, r, t; allowed: a column",
        ),
        (GOOD + "{", "evaluate.retention.x.path: got 'c.jsonl' ({path}: line 2"),
    ],
)
def test_a_file_is_looked_into(text: str, expected: str | None, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(text)
    found = faults(tmp_path)
    assert len(found) == (expected is not None)
    if expected is not None:
        assert expected.format(path=path) in found[0]


def test_a_column_of_texts_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"text": "One."}\n')
    text = {"kind": "text", "path": "c.jsonl", "column": "txt"}
    (found,) = faults_of_sets({"evaluate": {"retention": {"x": text}}}, tmp_path)
    assert str(found).endswith("of c.jsonl has text; allowed: a column that every row has; did you mean 'text'?")
    assert faults(tmp_path, path=".") == ["evaluate.retention.x.path: got '.', a folder; allowed: a file"]


def test_what_the_hub_will_bring_is_passed_by(tmp_path: Path) -> None:
    assert faults(tmp_path, path="data/hub/x/train.jsonl") == []


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="the extra `harness` is installed")
def test_a_task_of_the_harness_needs_the_extra_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").touch()
    task = {"kind": "harness", "path": "task.yaml", "task": "x", "metric": "acc"}
    extra, path = map(str, faults_of_sets({"evaluate": {"retention": {"x": task}}}, tmp_path))
    assert (
        "x.kind: got 'harness', and lm-evaluation-harness is not installed; `make extra NAME=harness` does it" in extra
    )
    assert path == "evaluate.retention.x.path: got 'task.yaml', a file; allowed: the folder of the task's YAML file"
