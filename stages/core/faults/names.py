"""Names: what a member refers to exists, names do not collide, seeds come once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from knowtune.common.errors import Problem, nearest
from stages.core.faults.raw import family, task_kind

BASELINES = {  # names of the leaderboard's lines of constant answers
    "classification": {"majority": "the line of the most frequent label"},
    "regression": {"mean": "the line of the mean score"},
}


def check_names(raw: dict[str, Any]) -> list[Problem]:
    """Check what members refer to, their own names and their seeds."""
    return [*_references(raw), *_collisions(raw), *_seeds(raw)]


def _references(raw: dict[str, Any]) -> Iterator[Problem]:
    """Check that what a member names exists."""
    filters, selections, runs = (family(raw, key) for key in ("filters", "selections", "runs"))
    for name, member in selections.items():
        yield from _must_exist(f"selections.{name}.filter", member.get("filter"), filters)
    for name, member in runs.items():
        yield from _must_exist(f"runs.{name}.selection", member.get("selection"), selections)
    for name, member in family(raw, "mixtures").items():
        for i, run in enumerate(member.get("from", [])):
            yield from _must_exist(f"mixtures.{name}.from[{i}]", run, runs)


def _must_exist(where: str, name: str | None, known: Iterable[str]) -> Iterator[Problem]:
    """Check one name."""
    if name is not None and name not in known:
        yield Problem(where, repr(name), ", ".join(sorted(known)) or "none is named", nearest(name, known))


def _collisions(raw: dict[str, Any]) -> Iterator[Problem]:
    """Check that each line of the leaderboard has a name of its own."""
    for name in family(raw, "mixtures"):
        if name in family(raw, "runs"):
            yield Problem(f"mixtures.{name}", "a name that a run has too", "a name of its own")
    lines = {"base": "the pristine base's line", **BASELINES.get(task_kind(raw), {})}
    for key in ("runs", "mixtures"):
        for name in set(lines) & set(family(raw, key)):
            yield Problem(f"{key}.{name}", f"the name of {lines[name]}", "another name")


def _seeds(raw: dict[str, Any]) -> Iterator[Problem]:
    """Check that no seed comes twice."""
    for key in ("runs", "selections"):
        for name, member in family(raw, key).items():
            seeds = member.get("seeds", [])
            if len(set(seeds)) < len(seeds):
                yield Problem(f"{key}.{name}.seeds", repr(seeds), "each seed once")
