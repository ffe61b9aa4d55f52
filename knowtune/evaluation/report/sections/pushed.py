"""Section: which answers moved away from their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knowtune.evaluation.push_away import KNOWN, LEARNED
from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.looks import FRONT, INK
from knowtune.evaluation.report.panels import Line, draw_panels
from knowtune.evaluation.report.section import Section

STYLES = {LEARNED: ("-", FRONT), KNOWN: ("--", INK)}


def show(report: Report) -> Mapping[str, Any] | None:
    """Draw a panel for each model: the changes of its answers' distances, the farthest pushed first."""
    if report.pushed is None:
        return None
    panels = {
        name: [
            Line([100 * i / (len(change) - 1) for i in range(len(change))], change, *STYLES[group])
            for group, change in groups.items()
        ]
        for name, groups in report.pushed.curves.items()
    }
    return {"panels": draw_panels(panels, "examples, %", "pushed", zero=True)}


SECTION = Section("pushed", "Push-away", "Answers that were pushed away", "pushed.html.j2", show)
