"""The picture of the report: what each model kept against what it learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from knowtune.evaluation.leaderboard import Entry, metric_class
from knowtune.evaluation.report.labels import Box, place_labels
from knowtune.evaluation.report.looks import CHOSEN, FONT, FRONT, GRID, INK, OTHER, style_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from knowtune.evaluation.report.contents import Report

LETTER = 0.58  # mean width of a letter, of the font's size


@dataclass(frozen=True)
class Point:
    """A model on the plane of what was learned and what was kept.

    Args:
        number: of its entry in the report.
        name: of the model.
        x: what was learned, with the half-width of its interval.
        y: what was kept.
        front: whether no other model is better at one of both and as good at the other.
    """

    number: int
    name: str
    x: tuple[float, float]
    y: tuple[float, float]
    front: bool = False


def draw_frontier(report: Report) -> Figure:
    """Draw the report's models."""
    verdict = report.verdict or {}
    return plot_frontier(report.entries, *report.axes, report.interpolations, verdict.get("run"))


def plot_frontier(
    entries: Sequence[Entry],
    lost: str,
    learned: str,
    interpolations: Mapping[str, pd.DataFrame] | None = None,
    chosen: str | None = None,
) -> Figure:
    """Draw kept (up) against learned (right), with 95 % intervals over seeds: the better, the further up and right.

    Names stand beside their points. A thin line is the frontier: no model is better at both than those on it.

    Args:
        entries: the base, runs and mixtures; constants and those without both numbers are left out.
        lost: the metric of what was lost; a share is drawn as what is kept of it, anything else downwards.
        learned: the metric of what was learned.
        interpolations: of mixtures that chose their alpha, what every alpha learned and forgot on the rows of that
            choice (seed, alpha, learned, forgotten, chosen); drawn dashed, as the mean over seeds.
        chosen: the model that the gate lets through.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.13, right=0.98, top=0.98, bottom=0.13)
    right, up = scales(lost, learned)
    points = find_points(entries, right, up)
    style_axes(axes, f"{right.label} →", f"{up.label} {'→' if up.kept else '←'}")
    axes.yaxis.set_inverted(not up.kept)
    for point in points:
        axes.errorbar(
            point.x[0],
            point.y[0],
            xerr=point.x[1],
            yerr=point.y[1],
            fmt="s" if point.number == 0 else "o",
            markersize=7 if point.name == chosen else 5,
            capsize=2,
            elinewidth=1,
            color=_colour(point, chosen),
            label=point.name,
            zorder=3,
        )
    _draw_steps(axes, points)
    for number, curve in enumerate((interpolations or {}).values(), start=1):
        _draw_interpolation(axes, curve, right, up, f"C{number}")
    axes.margins(0.08)
    _name(figure, axes, points, chosen)
    for point in points:  # what a pointer meets: larger than the point, and seen by nobody
        axes.plot(
            point.x[0], point.y[0], "o", markersize=16, alpha=0.0, color=INK, zorder=5, gid=f"model-{point.number}"
        )
    return figure


def find_points(entries: Sequence[Entry], right: Scale, up: Scale) -> list[Point]:
    """Find the models that have both numbers, and the frontier among them."""
    points = []
    for number, entry in enumerate(entries):
        if not entry.constant and {right.metric, up.metric} <= set(entry.summary):
            x, y = entry.summary[right.metric], entry.summary[up.metric]
            reach = right.factor * (x["half_width"] or 0), up.factor * (y["half_width"] or 0)
            points.append(Point(number, entry.name, (right.of(x["mean"]), reach[0]), (up.of(y["mean"]), reach[1])))
    sign = 1 if up.kept else -1
    merits = [(point.x[0], sign * point.y[0]) for point in points]
    beaten = [any(o != own and o[0] >= own[0] and o[1] >= own[1] for o in merits) for own in merits]
    return [Point(p.number, p.name, p.x, p.y, not worse) for p, worse in zip(points, beaten, strict=True)]


def _colour(point: Point, chosen: str | None) -> str:
    """Colour what was chosen, then the frontier, then others."""
    if point.number == 0:
        return INK
    return CHOSEN if point.name == chosen else FRONT if point.front else OTHER


def _draw_steps(axes: Axes, points: Sequence[Point]) -> None:
    """Draw the frontier as steps: what is below and to the left of it, some model reaches."""
    corners = sorted((point.x[0], point.y[0]) for point in points if point.front)
    if len(corners) > 1:
        axes.plot(*zip(*corners, strict=True), color=FRONT, linewidth=1, alpha=0.35, drawstyle="steps-pre", zorder=1)


def _draw_interpolation(axes: Axes, curve: pd.DataFrame, right: Scale, up: Scale, colour: str) -> None:
    """Draw what each alpha reached, dashed."""
    mean = curve.groupby("alpha")[["learned", "forgotten"]].mean()
    points = [(right.of(row["learned"]), up.of(row["forgotten"])) for _, row in mean.iterrows()]
    axes.plot(*zip(*points, strict=True), ".--", color=colour, linewidth=1, alpha=0.7)
    for alpha, point in zip(mean.index, points, strict=True):
        axes.annotate(f"{alpha:g}", point, (3, 3), textcoords="offset points", fontsize=7)


def _name(figure: Figure, axes: Axes, points: Sequence[Point], chosen: str | None) -> None:
    """Write each model's name beside its point, with a thin line where it stands apart."""
    if not points:
        return
    axes.autoscale_view()
    scale = 72 / figure.dpi

    def at(x: float, y: float) -> tuple[float, float]:
        return tuple(scale * axes.transData.transform((x, y)))  # type: ignore[return-value]

    marks = []
    for point in points:
        for reach in ((point.x[1], 0.0), (0.0, point.y[1])):
            low, high = (at(point.x[0] + sign * reach[0], point.y[0] + sign * reach[1]) for sign in (-1, 1))
            across, along = sorted((low[0], high[0])), sorted((low[1], high[1]))
            marks.append(Box(across[0] - 4, along[0] - 4, across[1] + 4, along[1] + 4))
    sizes = [(LETTER * FONT * len(point.name), 1.2 * FONT) for point in points]
    frame = Box(*(scale * edge for edge in axes.bbox.extents))
    offsets = place_labels([at(p.x[0], p.y[0]) for p in points], sizes, marks, frame)
    for point, offset, size in zip(points, offsets, sizes, strict=True):
        apart = abs(offset[0]) - size[0] / 2 > 10 or abs(offset[1]) - size[1] / 2 > 10
        axes.annotate(
            point.name.replace("$", r"\$"), (point.x[0], point.y[0]), offset, textcoords="offset points",
            ha="center", va="center", fontsize=FONT, color=_colour(point, chosen),
            fontweight="bold" if point.name == chosen else "normal",
            arrowprops={"arrowstyle": "-", "color": GRID, "linewidth": 0.6, "shrinkB": 3} if apart else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How a metric stands on an axis: shares in percent, and what was lost as what was kept."""

    metric: str
    kept: bool = False

    @property
    def factor(self) -> float:
        """Return what a value is multiplied by."""
        return 100 if metric_class(self.metric).unit == "share" else 1

    @property
    def label(self) -> str:
        """Say what the axis shows, and in which unit."""
        unit = "%" if metric_class(self.metric).unit == "share" else metric_class(self.metric).unit
        if self.kept:
            return f"kept: 100 % - {self.metric}, {unit}"
        return f"{self.metric}: {metric_class(self.metric).about}, {unit}"

    def of(self, value: float) -> float:
        """Return where a value stands."""
        return self.factor * (1 - value if self.kept else value)


def scales(lost: str, learned: str) -> tuple[Scale, Scale]:
    """Return the axes, across and up, of two metrics."""
    return Scale(learned), Scale(lost, kept=metric_class(lost).unit == "share")
