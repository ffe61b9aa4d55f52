"""Retention sets: names of their own, a model that can be measured on them, prompts whose braces pair up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowtune.common.errors import Problem
from knowtune.evaluation.metrics import METRICS
from knowtune.registry import member_class
from knowtune.tasks import TASKS
from stages.core.faults.raw import task_kind
from stages.core.faults.source import check_templates

COLUMNS = ("name", "what", "trained", "parity")  # of the leaderboard
PARTS = ("known", "texts")  # what `make compare` calls the known facts and the general texts


def check_retention(raw: dict[str, Any]) -> Iterator[Problem]:
    """Check every set of `evaluate.retention`."""
    sets, kind = raw.get("evaluate", {}).get("retention", {}), task_kind(raw)
    if sets and kind in TASKS and not member_class(TASKS, "task", kind).writes:
        got = f"sets for a model that writes, where task.kind is {kind!r}"
        yield Problem("evaluate.retention", got, "no sets; `drift` and `similarity_order` say what a head's model lost")
    for name, section in sets.items():
        where = f"evaluate.retention.{name}"
        taken = "a metric" if name in METRICS else "a column of the leaderboard" if name in COLUMNS else ""
        if taken or name in PARTS:
            yield Problem(where, f"the name of {taken or 'a part of the evaluation'}", "another name")
        yield from check_templates(section.get("columns", {}), f"{where}.columns")
