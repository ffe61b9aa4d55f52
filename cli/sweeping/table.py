"""What a sweep found: a table (CSV, and on the terminal) and a picture of what each number does."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.sweeping.file import Point, Sweep, short_names
from knowtune.common.files import whole, write_json
from knowtune.common.svg import svg_text
from knowtune.registry import member_class
from knowtune.tasks import TASKS
from stages.core.pipeline import project_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, PICTURE, RESULTS = "table.csv", "picture.svg", "results.json"
WIDTH = 140  # characters of a table that goes into a file
WIDE = 30  # a range whose ends lie so far apart, as a ratio, is drawn on a logarithmic axis


@dataclass(frozen=True)
class Result:
    """What became of a point: finished or failed; its metrics, `RUN.METRIC` to the mean over seeds; when it ended."""

    point: Point
    state: str
    metrics: Mapping[str, float]
    ended: float
    seconds: float


def read_metrics(folder: Path, evaluations: Sequence[str]) -> dict[str, float]:
    """Read what a point's workspace was measured at.

    Args:
        folder: the workspace.
        evaluations: its stages, e.g. "evaluate-run@lora".
    """
    numbers: dict[str, float] = {}
    for stage in evaluations:
        family, _, name = stage.partition("@")
        path = folder / project_out(family, name) / "metrics.json"
        with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or not whole
            summary = json.loads(path.read_text(encoding="utf-8"))["summary"]
            numbers |= {f"{name}.{metric}": float(entry["mean"]) for metric, entry in summary.items()}
    return numbers


def write_results(folder: Path, sweep: Sweep, results: Sequence[Result], models: Sequence[str]) -> None:
    """Write table, picture, and the same as data for tracking."""
    ordered = in_order(sweep, results)
    metrics = list(dict.fromkeys(name for result in ordered for name in result.metrics))
    with whole(folder / TABLE) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["point", *sweep.paths, "state", "seconds", *metrics])
        for one in ordered:
            values = [one.point.values[path] for path in sweep.paths]
            seconds = round(one.seconds, 1)
            numbers = [one.metrics.get(name, "") for name in metrics]
            writer.writerow([one.point.name, *values, one.state, seconds, *numbers])
    with whole(folder / PICTURE) as part:
        part.write_text(picture(sweep, results, models), encoding="utf-8")
    lines = [
        {
            "point": one.point.name,
            "run": one.point.run,
            "label": one.point.label,
            "values": dict(one.point.values),
            "state": one.state,
            "metrics": dict(one.metrics),
            "ended": one.ended,
        }
        for one in ordered
    ]
    write_json(folder / RESULTS, lines)


def in_order(sweep: Sweep, results: Iterable[Result]) -> list[Result]:
    """Order results: the best first where there is an objective; what has no number last."""
    objective, sign = sweep.options.objective, -1 if sweep.options.direction == "maximize" else 1
    if objective is None:
        return list(results)
    return sorted(results, key=lambda one: (objective not in one.metrics, sign * one.metrics.get(objective, 0.0)))


def shown_metrics(sweep: Sweep, models: Sequence[str]) -> list[str]:
    """Return the columns for a terminal: the objective, then what each model learned and lost."""
    learned, lost = axes_of(sweep)
    names = [f"{model}.{metric}" for model in models for metric in (learned, lost)]
    return list(dict.fromkeys([*([sweep.options.objective] if sweep.options.objective else []), *names]))


def axes_of(sweep: Sweep) -> tuple[str, str]:
    """Return the task's metric of what was learned, and that of what was lost."""
    task = member_class(TASKS, "task", sweep.shared["task"]["kind"])
    return task.learned, task.lost


def show(sweep: Sweep, results: Sequence[Result], models: Sequence[str]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    shown = shown_metrics(sweep, models)
    table = Table(title=f"sweep {sweep.name}", title_justify="left")
    for head in (*short_names(sweep.paths).values(), *shown, "state", "workspace"):
        table.add_column(head, justify="left" if head in ("state", "workspace") else "right")
    for one in in_order(sweep, results):
        values = [str(one.point.values[path]) for path in sweep.paths]
        numbers = [f"{one.metrics[name]:.3f}" if name in one.metrics else "–" for name in shown]
        table.add_row(*values, *numbers, one.state, one.point.name)
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)


def picture(sweep: Sweep, results: Sequence[Result], models: Sequence[str]) -> str:
    """Draw what each value did to learning (above) and forgetting (below): every point a dot, a line through the means.

    Returns:
        SVG.
    """
    from matplotlib.figure import Figure

    paths, metrics = sweep.paths, axes_of(sweep)
    figure = Figure(figsize=(1.2 + 2.8 * len(paths), 5.2), layout="constrained")
    grid = figure.subplots(2, len(paths), squeeze=False, sharey="row", sharex="col")
    for column, (path, short) in enumerate(short_names(paths).items()):
        for row, metric in enumerate(metrics):
            axes = grid[row][column]
            for number, model in enumerate(models):
                points = [(r.point.values[path], r.metrics.get(f"{model}.{metric}")) for r in results]
                _draw(axes, [(x, y) for x, y in points if y is not None], f"C{number}", model)
            axes.grid(alpha=0.3)
            if column == 0:
                axes.set_ylabel(metric)
        grid[1][column].set_xlabel(short)
    handles, labels = grid[0][0].get_legend_handles_labels()
    if len(models) > 1 and handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(models), frameon=False)
    return svg_text(figure)


def _draw(axes: Axes, points: Sequence[tuple[Any, float]], color: str, label: str) -> None:
    """Draw values against a metric; numbers where they lie, everything else side by side."""
    if not points:
        return
    numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x, _ in points)
    order: list[Any] = sorted({x for x, _ in points}) if numeric else list(dict.fromkeys(str(x) for x, _ in points))
    place = {x: x if numeric else i for i, x in enumerate(order)}
    key = (lambda x: x) if numeric else str
    means = [statistics.fmean(y for x, y in points if key(x) == value) for value in order]
    axes.plot([place[key(x)] for x, _ in points], [y for _, y in points], "o", color=color, alpha=0.5, markersize=4)
    axes.plot([place[x] for x in order], means, "-", color=color, label=label)
    if numeric and order[0] > 0 and order[-1] / order[0] >= WIDE:
        axes.set_xscale("log")
    if not numeric:
        axes.set_xticks(range(len(order)), order)
