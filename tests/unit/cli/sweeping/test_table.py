from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sweeping.file import Sweep
from cli.sweeping.table import Result, read_metrics, show, write_results
from tests.unit.cli.sweeping.conftest import GRID


def results(plan: Sweep) -> list[Result]:
    """One of four has failed."""
    points = plan.grid()
    metrics = [{"lora.generalisation": 0.1 * i, "lora.forgotten": 0.5, "lora.known": 1.0} for i in range(3)]
    good = [Result(p, "finished", m, 1.0, 2.0) for p, m in zip(points[:3], metrics, strict=True)]
    return [Result(points[3], "failed", {}, 1.0, 0.0), *good]


def test_the_table_begins_with_the_best(sweep: Callable[[str], Sweep], tmp_path: Path) -> None:
    plan = sweep(GRID)
    write_results(tmp_path, plan, results(plan), ["lora"])
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["lora.generalisation"] for row in rows] == ["0.2", "0.1", "0.0", ""]
    assert [row["state"] for row in rows] == ["finished"] * 3 + ["failed"]
    assert rows[0]["runs.lora.options.rank"] == "16"
    told = json.loads((tmp_path / "results.json").read_text())
    assert told[0]["run"] == plan.grid()[2].run
    picture = (tmp_path / "picture.svg").read_text()
    assert picture.startswith("<svg") or picture.startswith("<?xml")
    assert picture == _again(tmp_path, plan)


def _again(folder: Path, plan: Sweep) -> str:
    write_results(folder, plan, results(plan), ["lora"])
    return (folder / "picture.svg").read_text()


def test_the_terminal_shows_values_and_what_was_learned_and_lost(
    sweep: Callable[[str], Sweep], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = sweep(GRID)
    show(plan, results(plan), ["lora"])
    told = capsys.readouterr().out
    for word in ("rank", "learning_rate", "lora.generalisation", "lora.forgotten", "0.200", "failed"):
        assert word in told


def test_a_damaged_or_missing_result_is_no_number(tmp_path: Path) -> None:
    folder = tmp_path / "data/evaluated/runs/lora"
    folder.mkdir(parents=True)
    assert read_metrics(tmp_path, ["evaluate-run@lora"]) == {}
    (folder / "metrics.json").write_text('{"summary": {"known": {"me')
    assert read_metrics(tmp_path, ["evaluate-run@lora"]) == {}
    (folder / "metrics.json").write_text('{"summary": {"known": {"mean": 0.5, "n": 1}}}')
    assert read_metrics(tmp_path, ["evaluate-run@lora"]) == {"lora.known": 0.5}
