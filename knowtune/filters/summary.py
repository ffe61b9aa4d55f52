"""What a chain of filters did, as numbers: counts, distances with the cut, shares per relation, who disturbs whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from knowtune.filters.sketch_cosines import cosines_with_others, mean_group_cosines

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.filters.base import Seen
    from knowtune.filters.chain import Chain, Limits

BINS = 40  # of the histogram of distances, from 0 to the largest
MOST_GROUPS = 200  # whose shares are listed, the largest
MOST_DISTURBED = 24  # groups whose gradients are compared, the largest
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def row_cosines(seen: Seen, verdict: pd.DataFrame, chain: Chain) -> pd.DataFrame | None:
    """Give each row's cosine with the mean gradient of the others, among the rows that a filter compared by gradients.

    Of several such filters in a chain the first, which saw most rows. Negative: training on the row works against the
    others.

    Args:
        seen: what the base gives for the rows.
        verdict: see `knowtune.filters.chain.decide`.
        chain: that decided.

    Returns:
        id and cosine, on the index of those rows; None where no filter compares gradients.
    """
    number = next((number for number, (_, member) in enumerate(chain) if "sketches" in member.needs), None)
    if number is None:
        return None
    here = np.flatnonzero(verdict["step"] >= number)
    return verdict.iloc[here][["id"]].assign(cosine=cosines_with_others(seen.at(here)))


def summarise(
    rows: pd.DataFrame,
    seen: Seen,
    verdict: pd.DataFrame,
    chain: Chain,
    limits: Limits,
    cosines: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Count and compare what was kept and dropped.

    Args:
        rows: training rows, with the columns id, relation and target.
        seen: what the base gives for them.
        verdict: see `knowtune.filters.chain.decide`.
        chain: that decided.
        limits: within which it decided.
        cosines: see `row_cosines`.

    Returns:
        Numbers for summary.json: `rows`; `distances`, where a strategy looks at them; `groups`; `interference`, where
        a strategy compares gradients.
    """
    step = verdict["step"].to_numpy()  # (rows,)
    names = [f"{number + 1}. {name}" for number, (name, _) in enumerate(chain)]
    dropped = {name: int((step == number).sum()) for number, name in enumerate(names)}
    looks = [number for number, (_, member) in enumerate(chain) if "distance" in member.needs]
    groups = rows[limits.group]
    return {
        "rows": {"read": len(rows), "kept": int((step == len(chain)).sum()), "dropped": dropped},
        "stratify": limits.stratify,
        "distances": _distances(verdict["distance"].to_numpy(), step, names, looks) if looks else None,
        "groups": _shares(groups, step == len(chain), limits.group),
        "interference": None if cosines is None else _interference(rows, groups, seen, cosines),
    }


def cuts(distances: np.ndarray[Any, Any], gone: np.ndarray[Any, Any]) -> list[float]:
    """Find where what is kept turns into what is dropped: between two distances, or at one that is in both.

    Args:
        distances: of the rows that a strategy saw  # (rows,)
        gone: which of them it dropped.

    Returns:
        At most two; none where rows were not split by their distance alone, as within strata.
    """
    values, inverse = np.unique(distances, return_inverse=True)
    share = np.bincount(inverse, gone) / np.bincount(inverse)  # dropped, of each distance
    turns = np.flatnonzero(share[1:] != share[:-1])
    mixed = (share > 0) & (share < 1)
    left, right = values[turns], values[turns + 1]
    cut = np.where(mixed[turns], left, np.where(mixed[turns + 1], right, (left + right) / 2))
    cut = np.unique(np.concatenate([cut, values[mixed]]))
    return cut.tolist() if len(cut) <= 2 else []


def _distances(
    distances: np.ndarray[Any, Any], step: np.ndarray[Any, Any], names: list[str], looks: list[int]
) -> dict[str, Any]:
    """Return the histogram of what was kept and what each strategy dropped, and the cut of those that look at it."""
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


def _interference(rows: pd.DataFrame, groups: pd.Series[str], seen: Seen, cosines: pd.DataFrame) -> dict[str, Any]:
    """Compare the gradients of the rows that a strategy saw: between groups, and each with all others."""
    here = rows.index.get_indexer(cosines.index)
    seen, groups = seen.at(here), groups.iloc[here]
    sizes = groups.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    names = sorted(sizes.index[:MOST_DISTURBED])
    quantiles = zip(QUANTILES, np.quantile(cosines["cosine"], QUANTILES), strict=True)
    return {
        "groups": names,
        "cosines": mean_group_cosines(seen, groups, names),
        "with_the_others": {f"{quantile:g}": float(value) for quantile, value in quantiles},
    }
