"""Section: the exact commands that make these numbers again, and what params.yaml says of the model to ship."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.section import Section
from knowtune.evaluation.report.sections.answer import suggest


def show(report: Report) -> Mapping[str, Any] | None:
    """Name the model that the answer is about, or the first."""
    by_name = {model.entry.name: model for model in report.models}
    run = report.verdict["judged"] if report.verdict else suggest(report)
    chosen = by_name.get(run or "") or next(iter(by_name.values()), None)
    if chosen is None:
        return None
    is_run = chosen.cost is not None
    return {
        "name": chosen.entry.name,
        "stage": f"{'evaluate-run' if is_run else 'evaluate-mixture'}@{chosen.entry.name}",
        "is_run": is_run,
        "params": json.dumps(chosen.params, indent=2, ensure_ascii=False) if chosen.params else None,
        "family": "runs" if is_run else "mixtures",
    }


SECTION = Section("reproduce", "Reproduce", "How to make these numbers again", "reproduce.html.j2", show)
