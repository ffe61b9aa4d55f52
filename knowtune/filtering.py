"""Run a chain of filters; every dropped row says which strategy dropped it and why."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from knowtune.contract import DROPPED, KEPT, check
from knowtune.errors import UserError
from knowtune.families import Filter, Seen


def run_filters(
    rows: pd.DataFrame, seen: Seen, chain: Sequence[tuple[str, Filter]], where: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Apply filters one after the other.

    Args:
        rows: training rows.
        seen: what the base says of them, matched by id.
        chain: (name, filter) in order; each sees what the one before kept.
        where: what an error names.

    Returns:
        Kept rows and dropped rows (with strategy and reason), both in the order they were read.

    Raises:
        UserError: answers of other rows, or nothing is left.
    """
    if rows["id"].tolist() != seen.answers["id"].tolist():
        raise UserError(f"{where}: the answers are not those of the training rows; run the answers stage again")
    kept, dropped = rows, []
    distances = seen.answers["distance"].set_axis(rows.index)
    for name, member in chain:
        sketches = None if seen.sketches is None else seen.sketches[rows.index.get_indexer(kept.index)]
        reasons = member.reasons(kept, Seen(seen.answers.loc[kept.index], sketches))
        gone = reasons != ""
        dropped.append(kept[gone].assign(distance=distances[gone[gone].index], strategy=name, reason=reasons[gone]))
        kept = kept[~gone]
    out = pd.concat(dropped).sort_index()
    if len(kept) + len(out) != len(rows):
        raise AssertionError("kept + dropped != read")
    if kept.empty:
        worst = out["reason"].str.split(":").str[0].value_counts()
        raise UserError(f"{where}: the filter drops all {len(rows)} rows ({worst.to_dict()}); loosen its strategy")
    return (
        check(kept.assign(distance=distances[kept.index]).reset_index(drop=True), KEPT, where),
        check(out.reset_index(drop=True), DROPPED, where),
    )
