"""Section: where each model comes from, as a picture and run by run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.section import Section
from knowtune.lineage.picture import draw_graph, lineage_table


def show(report: Report) -> Mapping[str, Any] | None:
    """Draw the graph."""
    if report.lineage is None:
        return None
    table, verdict = lineage_table(report.lineage), report.verdict or {}
    ships, champion = verdict.get("run"), (verdict.get("champion") or {}).get("run")
    lit = str(ships or champion or "")
    return {
        "picture": draw_graph(report.lineage, lit),
        "table": table,
        "lit": lit,
        "why": "the one to ship" if ships else "the champion's run",
        "name": lit or (table[0]["run"] if table else "RUN"),
    }


SECTION = Section("lineage", "Lineage", "Where each model comes from", "lineage.html.j2", show)
