"""Hold rows out of training where there is no file to judge by: prompts at random, each with all its rows.

So no prompt is trained and tested. The draw is over ids, so the order of a file does not matter; where each prompt has
one row, rows are drawn. What a file of test rows has in common with the training rows is rejected instead, see
`knowtune.data.rejection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from knowtune.common.statistics import share_of
from knowtune.data.draw import random_keys
from knowtune.data.same_prompt import prompt_keys


def hold_out(rows: pd.DataFrame, shares: Mapping[str, float], seed: int, *, by_fact: bool) -> dict[str, pd.DataFrame]:
    """Split the training rows at random.

    Args:
        rows: all of them.
        shares: role -> share of the rows that is held out for it. A prompt of several rows may carry a role over it.
        seed: of the draw.
        by_fact: hold out other paraphrases of what is trained: of each fact one prompt at least stays.

    Returns:
        Rows per role, and of "train" the rest: one prompt at least. Where targets are labels, the same share of each.
    """
    order = _shuffle(rows, seed, by_fact=by_fact)
    prompts = pd.factorize(prompt_keys(rows).loc[order])[0]  # the number of each row's prompt, in the order drawn
    free = np.arange(prompts.max(initial=-1) + 1)
    if by_fact:
        facts = rows["fact"].loc[order]
        free = np.setdiff1d(free, prompts[~facts.duplicated().to_numpy()])  # a fact's first prompt stays
    else:
        free = free[: max(0, len(free) - 1)]
    ends = np.cumsum(np.bincount(prompts, minlength=1)[free])
    parts, first, taken = {}, 0, 0
    held = pd.Series(False, index=rows.index)
    for role, share in shares.items():
        last = first + int(np.searchsorted(ends[first:] - taken, share_of(share, len(rows)), side="left")) + 1
        last = min(last, len(free)) if share else first
        chosen = pd.Series(np.isin(prompts, free[first:last]), index=order).loc[rows.index]
        held |= chosen
        parts[role] = rows[chosen]
        first, taken = last, int(ends[last - 1]) if last else 0
    return {"train": rows[~held], **parts}


def _shuffle(rows: pd.DataFrame, seed: int, *, by_fact: bool) -> pd.Index[Any]:
    """Order rows at random; where targets are labels, or answers as few, each spread evenly over the order."""
    order = rows[["id", "target"]].iloc[random_keys(rows["id"], seed + 1).argsort(kind="stable")]
    if by_fact or order["target"].nunique() >= len(order) / 2:
        return order.index
    rank = order.groupby("target").cumcount() + random_keys(order["target"], seed + 2) / 2.0**64
    return (rank / order["target"].map(order["target"].value_counts())).sort_values().index
