"""Section: how training went. Loss over steps, and what single methods draw of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.looks import FRONT, INK
from knowtune.evaluation.report.panels import Line, draw_panels
from knowtune.evaluation.report.section import Section
from knowtune.evaluation.report.themed import as_picture

if TYPE_CHECKING:
    import pandas as pd

SIMILARITY = "similarity"


def show(report: Report) -> Mapping[str, Any] | None:
    """Draw a panel for each run; after them the pictures that methods draw."""
    runs = {str(name): run for name, run in report.curves.groupby("run", sort=False)}
    if not runs:
        return None
    lines = {name: [mean_line(run, "train"), mean_line(run, "validation", "--", INK)] for name, run in runs.items()}
    followed = {name: mean_line(run, SIMILARITY, first=1.0) for name, run in runs.items()}
    followed = {name: line for name, line in followed.items() if len(line.x) > 1}
    return {
        "losses": draw_panels(lines, "optimiser step", "curve", log=True),
        "similarities": draw_panels({n: [line] for n, line in followed.items()}, "optimiser step", "similarity"),
        "pictures": {name: as_picture(svg, f"run{i}") for i, (name, svg) in enumerate(report.run_plots.items())},
    }


def mean_line(run: pd.DataFrame, split: str, style: str = "-", colour: str = FRONT, first: float | None = None) -> Line:
    """Return the mean over seeds of one of a run's curves; `first` is what it was before the first step."""
    mean = run[run["split"] == split].groupby("step")["loss"].mean()
    start = ([], []) if first is None else ([0.0], [first])
    return Line([*start[0], *mean.index.astype(float)], [*start[1], *mean], style, colour)


SECTION = Section("curves", "Training", "How training went", "curves.html.j2", show)
