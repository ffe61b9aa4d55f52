"""What a sweep would run, and about how long it would take."""

from __future__ import annotations

from pathlib import Path

from cli.sweeping.read import read_sweep, refuse_name
from cli.sweeping.shared import default_targets, estimate


def dry(file: Path, folder: Path, workers: int) -> None:
    """Say what would run, and about how long; a study's later points are not known, so its bounds stand for them.

    Args:
        file: of the sweep.
        folder: of all sweeps.
        workers: points at a time.

    Raises:
        UserError: all faults of the file.
    """
    refuse_name(file)
    plan = read_sweep(file)
    targets = default_targets(plan)
    points = plan.grid() or plan.corners()
    expected = estimate(points, targets, workers)
    for piece, seconds in expected.shared:
        print(f"once, {_minutes(seconds):>11}  {', '.join(piece.stages)}")
    for point, number, seconds in expected.points:
        state = "  (is there already)" if (folder / plan.name / point.name / "dvc.lock").is_file() else ""
        print(f"{point.name} {_minutes(seconds):>8}  {point.label}: {number} stages of its own{state}")
    total, what = expected.seconds, f"{len(points)} points"
    if plan.options.study:
        own = sum(seconds for *_, seconds in expected.points) / len(points)
        total = sum(seconds for _, seconds in expected.shared) + own * plan.options.study.trials / workers
        what = f"{plan.options.study.trials} trials between these points"
    print(f"{what}, {workers} at a time, measured by {', '.join(targets)}: about {_minutes(total)}")
    print("What is finished, or lies in DVC's cache, is not run again.")
    if expected.unknown:
        print(f"not counted, for nobody knows how long they take: {', '.join(expected.unknown)}")


def _minutes(seconds: float) -> str:
    """Give a time in minutes."""
    return f"{seconds / 60:.1f} min"
