"""Section: what each run took, as far as it is the same each time: a clock would change the page at every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.section import Section


def show(report: Report) -> Mapping[str, Any] | None:
    """List the runs with what they trained, read and fill."""
    rows = [(model.entry, model.cost, model.params.get("seeds", [])) for model in report.models if model.cost]
    return {"rows": rows} if rows else None


SECTION = Section("cost", "Cost", "What each run cost", "cost.html.j2", show)
