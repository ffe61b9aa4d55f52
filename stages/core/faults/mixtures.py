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
    for name, section in family(raw, "mixtures").items():
        where, sources, weights = f"mixtures.{name}", section.get("from", []), section.get("weights")
        mixture = members.mixtures[name]
        if mixture is not None:
            yield from mixture.demands(members.context(where, section))
        yield from _check_seeds(raw, where, section, 1 if mixture is None else mixture.fewest_runs)
        if sources and weights is not None and len(weights) != len(sources):
            yield Problem(f"{where}.weights", f"{len(weights)} numbers", f"{len(sources)}, one per run")
        for i, run in enumerate(sources):
            method = members.methods.get(run)
            if method is not None and not method.folds:
                yield Problem(f"{where}.from[{i}]", repr(run), "runs whose method folds into plain weights")


def _check_seeds(raw: dict[str, Any], where: str, section: dict[str, Any], fewest: int) -> Iterator[Problem]:
    """Check that as many models become one as the strategy takes: of each run the n-th, or all of all runs."""
    runs, sources = family(raw, "runs"), section.get("from", [])
    counts = [len(runs[run]["seeds"]) for run in sources if "seeds" in runs.get(run, {})]
    if section.get("seeds", "each") == "all":
        best = raw.get("merge", {}).get("keep") == "best"  # one seed of each run
        if len(counts) == len(sources) and 0 < (len(counts) if best else sum(counts)) < fewest:
            why = "merge.keep: all, for best leaves one seed of each run" if best else "runs with 2 or more in all"
            yield Problem(f"{where}.seeds", "'all' of 1 seed", why)
        return
    if 0 < len(sources) < fewest:
        how = f"2 or more; {_takes_one()} take a single one too, and any strategy with `seeds: all`"
        yield Problem(f"{where}.from", "1 run", how)
    if len(set(counts)) > 1:
        yield Problem(f"{where}.from", f"runs with {sorted(set(counts))} seeds", "runs with equally many seeds")


def _takes_one() -> str:
    """Name the strategies that take a single run."""
    return " and ".join(name for name in MIXTURES if member_class(MIXTURES, "mixture", name).fewest_runs == 1)
