"""Promotion: a run or a rule, parts and metrics that are measured, a bound for every retention set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowtune.common.errors import Problem, nearest
from knowtune.evaluation.metrics import METRICS
from knowtune.registry import member_class
from knowtune.tasks import TASKS
from stages.core.faults.raw import family, task_kind


def check_promote(raw: dict[str, Any]) -> Iterator[Problem]:
    """Check the section `promote`."""
    section = raw.get("promote")
    if not isinstance(section, dict):
        return
    models = [*family(raw, "runs"), *family(raw, "mixtures")]
    metrics = raw.get("evaluate", {}).get("metrics", [])
    sets = raw.get("evaluate", {}).get("retention", {})
    named = [key for key in ("run", "best") if section.get(key) is not None]
    if len(named) != 1:
        yield Problem(
            "promote", " and ".join(named) or "neither run nor best", "one of them: `run`, or the rule `best`"
        )
    yield from _named("promote.run", section.get("run"), models)
    best = section.get("best") or {}
    yield from _named("promote.best.by", best.get("by"), metrics)
    for i, name in enumerate(best.get("of", [])):
        yield from _named(f"promote.best.of[{i}]", name, models)
    yield from _named("promote.learned", section.get("learned"), parts_of(task_kind(raw)))
    bounds = section.get("bounds", {})
    for name, limit in bounds.items():
        yield from _named(f"promote.bounds.{name}", name, [*metrics, *sets])
        if name in METRICS and is_share(name) and not 0 <= limit <= 1:
            yield Problem(f"promote.bounds.{name}", repr(limit), "a share, from 0 to 1")
    for name in sets:
        if "bounds" in section and name not in bounds:
            allowed = "how much worse than the base a model may be there; every set of evaluate.retention has a bound"
            yield Problem(f"promote.bounds.{name}", "nothing", allowed)


def parts_of(kind: Any) -> list[str]:
    """Name the parts of the evaluation in which models can be compared by what they learned."""
    if kind not in TASKS:
        return []
    task = member_class(TASKS, "task", kind)
    return ["generalisation", "reliability"] if task.writes else ["loss" if task.numeric else str(task.learned)]


def is_share(name: str) -> bool:
    """Tell whether a metric is a share, so that a bound of it lies between 0 and 1."""
    return bool(member_class(METRICS, "metric", name).unit == "share")


def _named(where: str, name: Any, known: list[str]) -> Iterator[Problem]:
    """Check one name."""
    if name is not None and name not in known:
        yield Problem(where, repr(name), ", ".join(known) or "none is measured", nearest(name, known))
