"""Small pictures side by side, one for each model, on the same axes: so none needs a legend, and rows of them wrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knowtune.common.svg import svg_text
from knowtune.evaluation.report.looks import FRONT, GRID, OTHER, style_axes
from knowtune.evaluation.report.themed import themed


@dataclass(frozen=True)
class Line:
    """A curve of a panel."""

    x: Sequence[float]
    y: Sequence[float]
    style: str = "-"
    colour: str = FRONT


def draw_panels(
    panels: Mapping[str, Sequence[Line]], label: str, name: str, *, log: bool = False, zero: bool = False
) -> dict[str, str]:
    """Draw a small picture for each model, all on the same axes; the first line of each is grey behind the others.

    Args:
        panels: of each model its lines.
        label: of the axis across.
        name: of the pictures on the page.
        log: whether values stand on a logarithmic axis.
        zero: whether a line marks 0.

    Returns:
        SVG for the page, by model.
    """
    from matplotlib.figure import Figure

    every = [line for lines in panels.values() for line in lines if len(line.y)]
    pictures = {}
    for number, (model, lines) in enumerate(panels.items()):
        figure = Figure(figsize=(2.7, 1.9))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.17, right=0.96, top=0.97, bottom=0.22)
        style_axes(axes, label, "")
        if log and every:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        if zero:
            axes.axhline(0, color=OTHER, linewidth=0.8)
        for other, behind in panels.items():
            if other != model and behind:
                axes.plot(behind[0].x, behind[0].y, color=GRID, linewidth=0.6, alpha=0.7)
        for line in lines:
            axes.plot(line.x, line.y, line.style, color=line.colour, linewidth=1.6)
        _same_limits(axes, every, log=log)
        pictures[model] = themed(svg_text(figure), f"{name}{number}")
    return pictures


def _same_limits(axes: Any, every: Sequence[Line], *, log: bool) -> None:
    """Give all panels the limits of all lines."""
    xs, ys = [x for line in every for x in line.x], [y for line in every for y in line.y]
    if not ys:
        return
    low, high = min(ys), max(ys)
    axes.set_xlim(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1)
    if log and low > 0:
        axes.set_ylim(low / 1.2, high * 1.2)
    elif high > low:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
