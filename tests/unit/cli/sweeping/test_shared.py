from __future__ import annotations

from collections.abc import Callable

import pytest

from cli.sweeping.file import Sweep
from cli.sweeping.shared import closure, default_targets, estimate, pieces, signatures, stages_of
from knowtune.common.errors import UserError
from tests.unit.cli.sweeping.conftest import GRID

OF_LORA = {"preserve@lora", "train@lora", "merge@lora", "evaluate-run@lora"}


def test_what_points_share_is_run_once_and_nothing_is_left_out(sweep: Callable[[str], Sweep]) -> None:
    points = sweep(GRID).grid()
    targets = default_targets(sweep(GRID))
    assert targets == ["evaluate-run@lora"]
    (piece,) = pieces(points, targets)
    assert piece.point is points[0]
    needed = closure(stages_of(points[0]), targets)
    assert set(needed) - set(piece.stages) == OF_LORA
    found = estimate(points, targets, workers=2)
    assert [number for _, number, _ in found.points] == [4] * 4
    own = [seconds for *_, seconds in found.points]
    assert found.seconds == pytest.approx(found.shared[0][1] + sum(own) / 2)


def test_what_only_some_points_share_has_a_place_of_its_own(sweep: Callable[[str], Sweep]) -> None:
    plan = sweep("grid: {filters.near.options.nearest.keep: [0.7, 0.8], runs.lora.options.rank: [4, 8]}\n"
                 "targets: [filter@near, train@lora]")  # fmt: skip
    points = plan.grid()
    found = {piece.point.label: set(piece.stages) for piece in pieces(points, default_targets(plan))}
    assert list(found) == ["keep=0.7, rank=4", "keep=0.7, rank=8", "keep=0.8, rank=4"]
    assert {"base", "filter@near", "train@lora"} < found["keep=0.7, rank=4"]
    assert found["keep=0.7, rank=8"] == {"preserve@lora", "train@lora"}
    assert found["keep=0.8, rank=4"] == {"filter@near"}


def test_values_concern_every_run_that_is_built_on_them(sweep: Callable[[str], Sweep]) -> None:
    everything = default_targets(sweep("grid: {prepare.max_facts: [10, 20]}"))
    assert len(everything) == len(sweep(GRID).shared["runs"])
    with pytest.raises(UserError, match="no run's evaluation depends on tracking"):
        default_targets(sweep("grid: {tracking.experiment: [a, b]}"))


def test_an_unknown_target_is_named(sweep: Callable[[str], Sweep]) -> None:
    plan = sweep("grid: {training.epochs: [1, 2]}\ntargets: [evaluate-run@lorra]")
    with pytest.raises(UserError, match="did you mean 'evaluate-run@lora'"):
        closure(stages_of(plan.grid()[0]), default_targets(plan))


def test_a_change_far_above_changes_all_below(sweep: Callable[[str], Sweep]) -> None:
    one, other = (signatures(stages_of(point)) for point in sweep("grid: {base.build.epochs: [1, 2]}").grid())
    assert one["base"] != other["base"]
    assert one["evaluate-run@lora"] != other["evaluate-run@lora"]
    assert one["validate"] == other["validate"]
