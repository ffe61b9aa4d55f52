from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sweeping.file import Sweep, refuse_name, short_names, with_values
from knowtune.common.errors import UserError
from tests.unit.cli.sweeping.conftest import GRID, STUDY


def test_a_grid_is_all_combinations_each_with_a_name_of_its_values(sweep: Callable[[str], Sweep]) -> None:
    points = sweep(GRID).grid()
    assert [point.label for point in points] == [
        f"rank={rank}, learning_rate={rate}" for rank in (4, 16) for rate in ("0.001", "0.004")
    ]
    assert len({point.name for point in points} | {point.run for point in points}) == 8
    assert points[3].params["runs"]["lora"]["options"] == {"rank": 16, "alpha": 32}
    assert points[3].params["runs"]["lora"]["training"] == {"learning_rate": 0.004}
    assert points[0].name == sweep(GRID.replace("[4, 16]", "[8, 4]")).grid()[2].name  # whatever else is tried


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


def test_what_an_anchor_shares_is_each_places_own() -> None:
    shared = {"rank": 2}
    params = with_values({"runs": {"a": shared, "b": shared}}, {"runs.a.rank": 4, "runs.a.training.epochs": 1})
    assert params == {"runs": {"a": {"rank": 4, "training": {"epochs": 1}}, "b": {"rank": 2}}}
    assert shared == {"rank": 2}


def test_a_path_is_called_by_as_little_as_tells_it_apart() -> None:
    paths = ["runs.a.options.rank", "runs.b.options.rank", "threads", "training.epochs"]
    assert list(short_names(paths).values()) == ["a.options.rank", "b.options.rank", "threads", "epochs"]


def test_no_name_at_all_is_answered_by_an_example() -> None:
    with pytest.raises(UserError, match="make sweep GRID=rank"):
        refuse_name(Path())


def test_a_name_that_is_no_folders_is_refused() -> None:
    refuse_name(Path("a/my-grid_2.yaml"))
    with pytest.raises(UserError, match="letters, digits, - and _"):
        refuse_name(Path("my.grid.yaml"))
