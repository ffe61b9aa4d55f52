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
    name, family = chosen.entry.name, "runs" if chosen.cost else "mixtures"
    stage = f"evaluate-{family.removesuffix('s')}@{name}"
    commands = {
        "dvc pull": "where a remote is set up: fetches what was made, and nothing runs",
        "make run": "makes what is missing, and this page; without changes it runs nothing",
        f"dvc repro {stage}": f"{name} alone, with all it needs",
        **({f'make ask RUN={name} Q="..."': f"the base's answer and {name}'s, side by side"} if chosen.cost else {}),
        f"make compare A=base B={name}": "what it lost and gained, fact by fact, with tests",
    }
    longest = max(map(len, commands))
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in chosen.params.items()]
    return {
        "name": name,
        "family": family,
        "commands": "\n".join(f"{command:{longest}}  # {about}" for command, about in commands.items()),
        "params": "\n".join([f"{name}:", *(f"  {line}" for line in lines)]) if lines else None,
    }


SECTION = Section("reproduce", "Reproduce", "How to make these numbers again", "reproduce.html.j2", show)
