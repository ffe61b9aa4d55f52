"""Mixtures: as many runs as the strategy takes, a weight for each, equally many seeds, and methods that fold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowtune.common.errors import Problem
from knowtune.merging.mixtures import MIXTURES
from knowtune.registry import member_class
from stages.core.faults.members import Members
from stages.core.faults.raw import family


def check_mixtures(raw: dict[str, Any], members: Members) -> Iterator[Problem]:
    """Check every mixture."""
    runs = family(raw, "runs")
    for name, section in family(raw, "mixtures").items():
        where, sources, weights = f"mixtures.{name}", section.get("from", []), section.get("weights")
        mixture = members.mixtures[name]
        if mixture is not None:
            yield from mixture.demands(members.context(where, section))
            if 0 < len(sources) < mixture.fewest_runs:
                yield Problem(f"{where}.from", "1 run", f"2 or more; {_takes_one()} take a single one too")
        if sources and weights is not None and len(weights) != len(sources):
            yield Problem(f"{where}.weights", f"{len(weights)} numbers", f"{len(sources)}, one per run")
        seeds = {len(runs[run]["seeds"]) for run in sources if "seeds" in runs.get(run, {})}
        if len(seeds) > 1:
            yield Problem(f"{where}.from", f"runs with {sorted(seeds)} seeds", "runs with equally many seeds")
        for i, run in enumerate(sources):
            method = members.methods.get(run)
            if method is not None and not method.folds:
                yield Problem(f"{where}.from[{i}]", repr(run), "runs whose method folds into plain weights")


def _takes_one() -> str:
    """Name the strategies that take a single run."""
    return " and ".join(name for name in MIXTURES if member_class(MIXTURES, "mixture", name).fewest_runs == 1)
