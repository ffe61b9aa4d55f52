"""The source of the rows: templates of columns, records of whole cases, shares that are held out."""

from __future__ import annotations

from typing import Any

from knowtune.common.errors import Problem
from knowtune.text.templates import template_columns
from stages.core.schema import kind_of_columns

TEMPLATES = ("prompt", "target", "text", "text_pair", "paraphrases", "locality_prompt")


def check_source(raw: dict[str, Any]) -> list[Problem]:
    """Check columns and shares; whether they fit the task is `stages.core.faults.task`'s business."""
    source = raw.get("source", {})
    columns = source.get("columns")
    problems = [] if columns is None else check_templates(columns, "source.columns") + _cases(source, columns)
    shares = sum(source.get("held_out", {}).values())
    if shares >= 1:
        allowed = "less than 1, for some rows must train"
        problems.append(Problem("source.held_out", f"shares of {shares:g} in all", allowed))
    return problems


def check_templates(columns: dict[str, Any], where: str) -> list[Problem]:
    """Check the braces of prompt templates among the columns at a key."""
    problems = []
    for key, text in [(name, text) for name in TEMPLATES for text in _as_list(columns.get(name))]:
        if not set("{}") & set(text):
            continue
        at = f"{where}.{key}"
        try:
            named = template_columns(text)
        except ValueError as error:
            problems.append(Problem(at, f"{text!r} ({error})", "a template with columns in braces"))
        else:
            if not named or not all(name.strip() for name in named):
                problems.append(Problem(at, repr(text), "a template that names columns in braces"))
    return problems


def _cases(source: dict[str, Any], columns: dict[str, Any]) -> list[Problem]:
    """Check what goes with records of whole cases."""
    if kind_of_columns(columns) != "cases":
        return []
    problems = []
    why = "a case says itself what is tested and what is known"
    for role in ("validation", "test", "known", "replay"):
        if (name := source.get("files", {}).get(role)) is not None:
            problems.append(Problem(f"source.files.{role}", repr(name), f"null, for {why}"))
    for role, share in source.get("held_out", {}).items():
        if share:
            problems.append(Problem(f"source.held_out.{role}", repr(share), f"0, for {why}"))
    prompts, targets = (len(_as_list(columns.get(f"locality_{key}"))) for key in ("prompt", "target"))
    both = {"locality_prompt", "locality_target"} <= set(columns)
    if both and targets not in (prompts, min(prompts, 1)):
        allowed = f"{prompts}, one for each of source.columns.locality_prompt"
        problems.append(Problem("source.columns.locality_target", f"{targets} columns", allowed))
    return problems


def _as_list(value: Any) -> list[Any]:
    """Give a list as it is, nothing as none, and all else as a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]
