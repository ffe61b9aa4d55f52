from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sweeping.file import Sweep
from cli.sweeping.read import refuse_name
from knowtune.common.errors import UserError
from tests.unit.cli.sweeping.conftest import STUDY


def test_a_study_is_checked_at_its_bounds_and_choices(sweep: Callable[[str], Sweep]) -> None:
    values = [dict(point.values) for point in sweep(STUDY).corners()]
    assert [list(one.values()) for one in values] == [
        [0.001, 2, "lora"], [0.1, 2, "lora"], [0.001, 8, "lora"], [0.001, 2, "kasa"],
    ]  # fmt: skip


def test_every_fault_is_told_at_once_before_anything_runs(sweep: Callable[[str], Sweep]) -> None:
    with pytest.raises(UserError) as told:
        sweep("""
grid:
  runs.lorra.options.rank: [4]
  runs.lora.training.learning_rat: [0.001]
  runs.lora.options.alpha: [abc, 3]
  threds: [1]
  runs.lora.method.kind: [x]
objective: lora.generalization
""")
    lines = str(told.value).splitlines()
    assert lines[0].endswith("rank.yaml: 6 problems")
    assert [line.partition(": got ")[0].strip() for line in lines[1:]] == [
        "runs.lorra.options.rank", "threds", "runs.lora.method.kind", "runs.lora.options.alpha",
        "runs.lora.training.learning_rat", "objective",
    ]  # fmt: skip
    for number, guess in ((1, "lora"), (2, "threads"), (5, "learning_rate"), (6, "lora.generalisation")):
        assert lines[number].endswith(f"; did you mean '{guess}'?")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("objective: lora.known", "one of grid and study"),
        (
            "grid: {threads: [1]}\nstudy: {trials: 2}\nspace: {threads: [1]}\nobjective: lora.known",
            "both grid and study",
        ),
        ("study: {trials: 2}\nobjective: lora.known", "space: got one of study and space"),
        ("study: {trials: 2}\nspace: {threads: [1, 2]}", "RUN.METRIC, for a study needs to know what is better"),
        ("grid: {threads: []}", "grid.threads"),
        ("grid: {threads: [1, 1]}", "each value once"),
        ("grid: {threads: 1}", "grid.threads: got 1"),
        ("grid: {threads: [1]}\ndirection: up", "direction: got 'up'"),
        ("gird: {threads: [1]}", "did you mean 'grid'?"),
        (f"grid: {{threads: {list(range(40))}, training.epochs: {list(range(40))}}}", "1600 points"),
        ("study: {trials: 2}\nspace: {threads: {low: 2, high: 1}}\nobjective: lora.known", "low below high"),
        ("study: {trials: 0}\nspace: {threads: [1]}\nobjective: lora.known", "study.trials: got 0"),
        ("grid: {threads: [1]}\nparams: nowhere.yaml", "nowhere.yaml: no such file"),
        ("grid: {threads: [1]}\nparams: presets/pararel.yaml", "say which: DATA=folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(sweep: Callable[[str], Sweep], text: str, words: str) -> None:
    with pytest.raises(UserError) as told:
        sweep(text)
    assert words in str(told.value)


def test_no_name_at_all_is_answered_by_an_example() -> None:
    with pytest.raises(UserError, match="make sweep GRID=rank"):
        refuse_name(Path())


def test_a_name_that_is_no_folders_is_refused() -> None:
    refuse_name(Path("a/my-grid_2.yaml"))
    with pytest.raises(UserError, match="letters, digits, - and _"):
        refuse_name(Path("my.grid.yaml"))
