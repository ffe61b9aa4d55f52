from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sweeping.file import Point, Sweep
from cli.sweeping.study import StudySource
from knowtune.common.errors import UserError
from tests.unit.cli.sweeping.conftest import STUDY


def drawn(plan: Sweep, folder: Path, most: int = 9) -> list[Point]:
    """Ask and tell, at most so many times."""
    source, points = StudySource(plan, folder), list[Point]()
    while len(points) < most and (point := source.next()):
        points.append(point)
        source.tell(point, float(point.values["runs.lora.options.rank"]))
    return points


def test_a_study_that_was_killed_tries_the_same_as_one_that_was_not(
    sweep: Callable[[str], Sweep], tmp_path: Path
) -> None:
    plan = sweep(STUDY)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = drawn(plan, tmp_path / "whole")
    assert len(whole) == 3
    drawn(plan, tmp_path / "killed", most=1)
    begun = StudySource(plan, tmp_path / "killed")
    assert [begun.next(), begun.next()] == whole[:2]  # the second is begun, and never told
    assert drawn(plan, tmp_path / "killed") == whole
    assert drawn(plan, tmp_path / "killed") == whole  # a finished one draws nothing new


def test_a_failed_trial_is_replaced_by_another(sweep: Callable[[str], Sweep], tmp_path: Path) -> None:
    source = StudySource(sweep(STUDY), tmp_path)
    first = source.next()
    assert first is not None
    source.tell(first, None)
    again = drawn(sweep(STUDY), tmp_path)
    assert len(again) == 3
    assert first not in again


def test_without_optuna_the_command_that_installs_it_is_named(
    sweep: Callable[[str], Sweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match="make extra NAME=sweep"):
        StudySource(sweep(STUDY), tmp_path)
