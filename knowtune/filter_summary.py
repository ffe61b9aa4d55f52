"""What a chain of filters did, as numbers: counts, distances with the cut, shares per relation, who disturbs whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from knowtune.interference import mean_cosines, oppositions

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.families import Seen
    from knowtune.filtering import Chain, Limits

BINS = 40  # of the histogram of distances, from 0 to the largest
MOST_GROUPS = 200  # whose shares are told, the largest
MOST_DISTURBED = 24  # groups whose gradients are compared, the largest
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def summarise(rows: pd.DataFrame, seen: Seen, verdict: pd.DataFrame, chain: Chain, limits: Limits) -> dict[str, Any]:
    """Count and compare what was kept and dropped.

    Args:
        rows: training rows, with the columns id, relation and target.
        seen: what the base says of them.
        verdict: see `knowtune.filtering.decide`.
        chain: that decided.
        limits: within which it decided.

    Returns:
        Numbers for summary.json: `rows`; `distances`, where a strategy looks at them; `groups`; `interference`, where
        a strategy compares gradients.
    """
    step = verdict["step"].to_numpy()  # (rows,)
    names = [f"{number + 1}. {name}" for number, (name, _) in enumerate(chain)]
    dropped = {name: int((step == number).sum()) for number, name in enumerate(names)}
    looks = [number for number, (_, member) in enumerate(chain) if "distance" in member.needs]
    compares = [number for number, (_, member) in enumerate(chain) if "sketches" in member.needs]
    groups = rows[limits.group]
    return {
        "rows": {"read": len(rows), "kept": int((step == len(chain)).sum()), "dropped": dropped},
        "stratify": limits.stratify,
        "distances": _distances(verdict["distance"].to_numpy(), step, names, looks) if looks else None,
        "groups": _shares(groups, step == len(chain), limits.group),
        "interference": _interference(groups, seen, step, compares[0]) if compares else None,
    }


def cuts(distances: np.ndarray[Any, Any], gone: np.ndarray[Any, Any]) -> list[float]:
    """Find where what is kept turns into what is dropped: between two distances, or at one that is in both.

    Args:
        distances: of the rows that a strategy saw  # (rows,)
        gone: which of them it dropped.

    Returns:
        At most two places; none where rows were not parted by their distance alone, as within strata.
    """
    values, place = np.unique(distances, return_inverse=True)
    share = np.bincount(place, gone) / np.bincount(place)  # dropped, of each distance
    turns = np.flatnonzero(share[1:] != share[:-1])
    mixed = (share > 0) & (share < 1)
    left, right = values[turns], values[turns + 1]
    found = np.where(mixed[turns], left, np.where(mixed[turns + 1], right, (left + right) / 2))
    found = np.unique(np.concatenate([found, values[mixed]]))
    return found.tolist() if len(found) <= 2 else []


def _distances(
    distances: np.ndarray[Any, Any], step: np.ndarray[Any, Any], names: list[str], looks: list[int]
) -> dict[str, Any]:
    """Give the histogram of what was kept and what each strategy dropped, and the cut of those that look at it."""
    edges = np.linspace(0.0, float(distances.max()) or 1.0, BINS + 1)
    counts = {name: np.histogram(distances[step == number], edges)[0] for number, name in enumerate([*names, "kept"])}
    return {
        "edges": edges.tolist(),
        "kept": counts.pop("kept").tolist(),
        "dropped": {name: count.tolist() for name, count in counts.items()},
        "cuts": {names[i]: cuts(distances[step >= i], step[step >= i] == i) for i in looks},
    }


def _shares(groups: pd.Series[str], kept: np.ndarray[Any, Any], by: str) -> dict[str, Any]:
    """Count what was read and kept of each group, of the largest first."""
    read = groups.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    left = groups[kept].value_counts()
    shown = read.index[:MOST_GROUPS]
    return {
        "by": by,
        "number": len(read),
        "names": shown.tolist(),
        "read": read[shown].tolist(),
        "kept": left.reindex(shown, fill_value=0).tolist(),
    }


def _interference(groups: pd.Series[str], seen: Seen, step: np.ndarray[Any, Any], number: int) -> dict[str, Any]:
    """Compare the gradients of the rows that a strategy saw: between groups, and each with all others."""
    here = np.flatnonzero(step >= number)
    seen, groups = seen.at(here), groups.iloc[here]
    sizes = groups.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    names = sorted(sizes.index[:MOST_DISTURBED])
    opposition = oppositions(seen)
    return {
        "groups": names,
        "cosines": mean_cosines(seen, groups, names),
        "opposition": {
            f"{q:g}": float(value) for q, value in zip(QUANTILES, np.quantile(opposition, QUANTILES), strict=True)
        },
    }
