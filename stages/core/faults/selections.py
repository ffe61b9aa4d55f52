"""Selections: what a strategy demands, and an adapter whose parameters it can choose among."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowtune.common.errors import Problem
from stages.core.faults.members import Members
from stages.core.faults.raw import family


def check_selections(raw: dict[str, Any], members: Members) -> Iterator[Problem]:
    """Check every selection."""
    for name, section in family(raw, "selections").items():
        where, selector, adapter = f"selections.{name}", members.selectors[name], members.adapters.get(name)
        if selector is not None:
            yield from selector.demands(members.context(where, section))
        if adapter is None:
            continue
        if adapter.is_adapter:
            yield from adapter.demands(members.context(f"{where}.adapter", section["adapter"]))
        else:
            got = f"{section['adapter']['method']!r}, which has no parameters of its own"
            yield Problem(f"{where}.adapter.method", got, "an adapter, e.g. lora")
