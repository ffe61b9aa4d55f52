"""Section: which rows and parameters the selections chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.section import Section
from knowtune.evaluation.report.themed import as_picture


def show(report: Report) -> Mapping[str, Any] | None:
    """Take the pictures of selections that choose parameters."""
    pictures = {name: as_picture(svg, f"selection{i}") for i, (name, svg) in enumerate(report.selection_plots.items())}
    return {"pictures": pictures} if pictures else None


SECTION = Section("selections", "Selections", "What the selections chose", "selections.html.j2", show)
