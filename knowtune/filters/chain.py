"""Run a chain of filters; every dropped row says which strategy dropped it and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from knowtune.common.errors import UserError
from knowtune.data.contract import DROPPED, KEPT, check
from knowtune.filters.base import Filter, Seen

Chain = Sequence[tuple[str, Filter]]


@dataclass(frozen=True)
class Limits:
    """Within what a chain of filters decides.

    Args:
        group: the column whose values must not be lost whole: relation, or target where targets are labels.
        stratify: the column within whose values strategies rank rows; None: among all.
        allow_lost: whether whole groups may be lost nevertheless.
    """

    group: str = "relation"
    stratify: str | None = None
    allow_lost: bool = False


def decide(rows: pd.DataFrame, seen: Seen, chain: Chain, where: str, limits: Limits | None = None) -> pd.DataFrame:
    """Apply filters one after the other.

    Args:
        rows: training rows, with the columns that the filters read.
        seen: what the base gives for them, in their order.
        chain: (name, filter) in order; each sees what the one before kept.
        where: what an error names, e.g. "filter NAME".
        limits: see there.

    Returns:
        On the index of `rows`: id; distance; step, which of the chain drops the row, counted from 0, or the length of
        the chain where it is kept; reason, "" where it is kept.

    Raises:
        UserError: answers of other rows, something that a filter needs is missing, all distances are equal (ids would
            decide), a group is lost, or nothing is left (which nothing allows, for there is nothing to train on).
    """
    limits = limits or Limits()
    if len(rows) != len(seen.answers) or not (rows["id"].array == seen.answers["id"].array).all():
        raise UserError(f"{where}: the answers are not those of the training rows; run the answers stage again")
    _require(seen, chain, where)
    step = np.full(len(rows), len(chain))  # (rows,)
    reason = np.full(len(rows), "", dtype=object)
    for number, (name, member) in enumerate(chain):
        here = np.flatnonzero(step == len(chain))
        if not len(here):
            break
        reasons = _reasons(member, rows, seen, here, limits.stratify if member.ranks else None)
        gone = reasons != ""
        if gone.any() and member.ranks and "distance" in member.needs:
            _require_different(seen.answers["distance"].to_numpy()[here], f"{where}: {name}")
        step[here[gone]] = number
        reason[here[gone]] = reasons[gone]
    verdict = pd.DataFrame(
        {
            "id": rows["id"],
            "distance": seen.answers["distance"].to_numpy(),
            "step": step,
            "reason": pd.Series(reason, index=rows.index, dtype="str"),
        }
    )
    _refuse_losses(rows, verdict, len(chain), where, limits)
    return verdict


def split(rows: pd.DataFrame, verdict: pd.DataFrame, chain: Chain, where: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split rows into kept and dropped, both in their order, as the data contract wants them.

    Args:
        rows: whole training rows.
        verdict: of these rows, see `decide`.
        chain: that decided.
        where: what an error names.
    """
    if rows["id"].tolist() != verdict["id"].tolist():
        raise AssertionError("a verdict of other rows")
    full = rows.assign(distance=verdict["distance"].to_numpy())
    gone = (verdict["step"] < len(chain)).to_numpy()
    names = np.array([name for name, _ in chain], dtype=object)
    kept, dropped = full[~gone].reset_index(drop=True), full[gone].reset_index(drop=True)
    dropped["strategy"] = pd.Series(names[verdict["step"].to_numpy()[gone]], dtype="str")
    dropped["reason"] = verdict["reason"][gone].reset_index(drop=True)
    if len(kept) + len(dropped) != len(rows):
        raise AssertionError("kept + dropped != read")
    return check(kept, KEPT, where), check(dropped, DROPPED, where)


def run_filters(
    rows: pd.DataFrame, seen: Seen, chain: Chain, where: str, limits: Limits | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decide and split, for rows that fit into memory.

    Returns:
        Kept rows and dropped rows (with strategy and reason), both in the order they were read.
    """
    return split(rows, decide(rows, seen, chain, where, limits), chain, where)


def _require(seen: Seen, chain: Chain, where: str) -> None:
    """Refuse filters that lack what they need."""
    missing = int(seen.answers["distance"].isna().sum())
    for name, member in chain:
        if "distance" in member.needs and missing:
            raise UserError(
                f"{where}: {name} needs distances, and {missing} of {len(seen.answers)} answers have none; a task "
                "whose answers are numbers has none at all"
            )
        if "sketches" in member.needs and seen.sketches is None:
            raise UserError(
                f"{where}: {name} needs sketches of gradients, and the answers have none; set `answers.sketch` in "
                "params.yaml"
            )


def _require_different(distances: np.ndarray[Any, Any], where: str) -> None:
    """Refuse to rank rows whose distances are all equal."""
    if (distances == distances[0]).all():
        raise UserError(
            f"{where}: the distances of all {len(distances)} rows are equal ({distances[0]:g}), so that it would "
            "choose by id alone; look at the answers (all empty? raise answers.max_new_tokens), use another "
            "representation (semantics), or filter by another strategy"
        )


def _reasons(
    member: Filter, rows: pd.DataFrame, seen: Seen, here: np.ndarray[Any, Any], stratify: str | None
) -> np.ndarray[Any, Any]:  # (here,), object
    """Ask a filter about the rows at some positions, each stratum by itself."""
    if stratify is None:
        if len(here) < len(rows):
            rows, seen = rows.iloc[here], seen.at(here)
        return member.reasons(rows, seen).to_numpy(dtype=object)
    reasons = np.full(len(here), "", dtype=object)
    for positions in rows[stratify].iloc[here].groupby(rows[stratify].iloc[here], sort=False).indices.values():
        reasons[positions] = _reasons(member, rows, seen, here[positions], None)
    return reasons


def _refuse_losses(rows: pd.DataFrame, verdict: pd.DataFrame, num_steps: int, where: str, limits: Limits) -> None:
    """Refuse a chain that leaves nothing, or nothing of a group; rows without one ("") are no group."""
    kept = (verdict["step"] == num_steps).to_numpy()
    if not kept.any():
        worst = verdict["reason"].str.split(":").str[0].value_counts()
        raise UserError(f"{where}: the filter drops all {len(rows)} rows ({worst.to_dict()}); loosen its strategy")
    groups = rows[limits.group]
    read = set(groups.unique()) - {""}
    lost = sorted(read - set(groups[kept].unique()))
    if lost and not limits.allow_lost:
        named = ", ".join(map(repr, lost[:5])) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        key = where.replace("filter ", "filters.", 1)
        raise UserError(
            f"{where}: it drops all rows of {len(lost)} of {len(read)} {limits.group}s: {named}; loosen its "
            f"strategy, rank within each ({key}.stratify: {limits.group}), or allow it ({key}.allow_lost: true)"
        )
