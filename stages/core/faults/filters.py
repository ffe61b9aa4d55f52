"""Filters: each strategy once, with what it needs, and options that have an effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowtune.common.errors import Problem, nearest
from knowtune.filters import FILTERS
from knowtune.registry import member_class
from stages.core.faults.members import Members
from stages.core.faults.raw import family, task_kind


def check_filters(raw: dict[str, Any], members: Members) -> Iterator[Problem]:
    """Check every filter."""
    for name, section in family(raw, "filters").items():
        where, chain = f"filters.{name}", members.filters[name]
        yield from _chain(where, section)
        yield from _needs(raw, where, section, chain)
        if section.get("stratify") is not None and chain and not any(one is None or one.ranks for one in chain):
            ranking = [other for other in FILTERS if member_class(FILTERS, "filter", other).ranks]
            got = f"{section['stratify']!r}, which has no effect: no strategy here ranks rows"
            yield Problem(f"{where}.stratify", got, f"null, or with one of {', '.join(ranking)}")


def _chain(where: str, section: dict[str, Any]) -> Iterator[Problem]:
    """Check that each strategy comes once, and that options are of one of them."""
    strategies = section.get("strategy", [])
    twice = sorted({strategy for strategy in strategies if strategies.count(strategy) > 1})
    if twice:
        yield Problem(f"{where}.strategy", f"{', '.join(twice)} twice", "each strategy once")
    for extra in set(section.get("options", {})) - set(strategies) if "strategy" in section else ():
        allowed = "options of a strategy named in `strategy`"
        yield Problem(f"{where}.options.{extra}", "an unknown key", allowed, nearest(extra, strategies))


def _needs(raw: dict[str, Any], where: str, section: dict[str, Any], chain: list[Any]) -> Iterator[Problem]:
    """Check that the task has distances for a strategy that reads them, and that sketches are made."""
    has_sketches = raw.get("answers", {}).get("sketch", "not given") is not None
    for i, (strategy, opened) in enumerate(zip(section.get("strategy", []), chain, strict=True)):
        if opened is not None and "distance" in opened.needs and task_kind(raw) == "regression":
            got = f"{strategy!r}, which needs semantic distances, and a score has none"
            yield Problem(f"{where}.strategy[{i}]", got, "a strategy that reads no distance")
        if opened is not None and "sketches" in opened.needs and not has_sketches:
            allowed = "dimensions, batch_size and seed of the gradients' sketches"
            yield Problem("answers.sketch", f"nothing, and {where} uses {strategy}", allowed)
