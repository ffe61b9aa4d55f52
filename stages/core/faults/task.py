"""The task: its options, and that data, base, metrics and what is kept fit it and the source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from knowtune.common.errors import Problem, nearest
from knowtune.evaluation.metrics import METRICS
from knowtune.registry import member_class
from knowtune.tasks import TASKS
from stages.core.faults.raw import has_known, has_validation, task_kind
from stages.core.shape import as_problems


def check_task(raw: dict[str, Any]) -> list[Problem]:
    """Check the task, and what has to fit it."""
    problems = []
    if raw.get("merge", {}).get("keep") == "best" and not has_validation(raw):
        problems.append(Problem("merge.keep", "'best'", "all, for `source` gives no validation rows"))
    kind = task_kind(raw)
    if kind is None:
        return problems  # the check of the shape says so
    if kind not in TASKS:
        return [*problems, Problem("task.kind", repr(kind), ", ".join(TASKS), nearest(kind, TASKS))]
    return [*problems, *_options(raw["task"], kind), *_rows(raw, kind), *_metrics(raw, kind)]


def _options(given: dict[str, Any], kind: str) -> list[Problem]:
    """Check the task's own options."""
    task = member_class(TASKS, "task", kind)
    try:
        task.model_validate({key: given[key] for key in given if key != "kind"})
    except ValidationError as error:
        return as_problems(error, "task", task)
    return []


def _rows(raw: dict[str, Any], kind: str) -> Iterator[Problem]:
    """Check that base, source and columns are of the task's kind."""
    source, columns = raw.get("source", {}), raw.get("source", {}).get("columns")
    has_head = kind != "knowledge"
    if has_head and raw.get("base", {}).get("model") == "embedded":
        yield Problem("base.model", "'embedded'", f"folder; the embedded base is no model for {kind}")
    if has_head and source.get("format") == "embedded":
        yield Problem("source.format", "'embedded'", f"files; the authored facts are no rows for {kind}")
    if columns is not None and has_head != ("label" in columns):
        need = "text, text_pair, label" if has_head else "prompt and target, messages, or the columns of a case"
        yield Problem("source.columns", ", ".join(columns), f"{need}, for task.kind is {kind!r}")


def _metrics(raw: dict[str, Any], kind: str) -> Iterator[Problem]:
    """Check that metrics exist, belong to the task, and find the rows that they read."""
    fitting = [name for name in METRICS if kind in member_class(METRICS, "metric", name).tasks]
    for i, metric in enumerate(raw.get("evaluate", {}).get("metrics", [])):
        where = f"evaluate.metrics[{i}]"
        if metric not in METRICS:
            continue  # said where members are opened
        if metric not in fitting:
            yield Problem(where, f"{metric!r}, which {kind} does not have", ", ".join(fitting))
        elif "known" in member_class(METRICS, "metric", metric).needs and not has_known(raw):
            allowed = "a metric that reads none; or a file of facts that the base knows, at source.files.known"
            yield Problem(where, f"{metric!r}, and `source` gives no known rows", allowed)
