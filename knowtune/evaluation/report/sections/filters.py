"""Section: which rows the filters kept, and how much of the injected label noise they dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.section import Section
from knowtune.evaluation.report.themed import as_picture


def show(report: Report) -> Mapping[str, Any] | None:
    """Take the filters' pictures and scores."""
    if not report.filters:
        return None
    return {
        "pictures": {name: as_picture(svg, f"filter{i}") for i, (name, svg) in enumerate(report.filter_plots.items())}
    }


SECTION = Section("filters", "Filters", "What the filters dropped", "filters.html.j2", show)
