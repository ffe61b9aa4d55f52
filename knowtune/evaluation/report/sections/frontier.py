"""Section: learned against kept, with a point for each model and its numbers beside the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knowtune.common.svg import svg_text
from knowtune.evaluation.interpolation import interpolation_rows
from knowtune.evaluation.leaderboard import arrow
from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.plane import draw_frontier, find_points, scales
from knowtune.evaluation.report.section import Section
from knowtune.evaluation.report.themed import themed


def show(report: Report) -> Mapping[str, Any] | None:
    """Draw the plane, and list the models on it, the frontier first."""
    lost, learned = report.axes
    points = find_points(report.entries, *scales(lost, learned))
    if len(points) < 2:
        return None
    entries = {point.number: report.entries[point.number] for point in points}
    rows = [
        {
            "number": point.number,
            "name": point.name,
            "front": point.front,
            "x": entries[point.number].summary[learned]["mean"],
            "y": entries[point.number].summary[lost]["mean"],
            "learned": entries[point.number].cell(learned),
            "lost": entries[point.number].cell(lost),
        }
        for point in sorted(points, key=lambda point: -point.x[0])
    ]
    return {
        "picture": themed(svg_text(draw_frontier(report)), "frontier"),
        "rows": rows,
        "learned": f"{learned} {arrow(learned)}",
        "lost": f"{lost} {arrow(lost)}",
        "interpolations": interpolation_rows(report.interpolations),
    }


SECTION = Section(
    "frontier", "Frontier", "What each learned, and what it kept", "frontier.html.j2", show, unfolded=True
)
