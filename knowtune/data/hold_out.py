"""Rows that ask the same: they are held out together, and may be right answers of each other.

Where there is no file to judge by, prompts are held out by lot, with all their rows: none is trained and tested. The
lot is drawn over ids, so the order of a file does not matter; where each prompt has one row, rows are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from knowtune.common.statistics import share_of
from knowtune.data.records import CHUNK
from knowtune.text.normalize import normal_form


def asked_by(rows: pd.DataFrame) -> pd.Series[int]:
    """Give what each row asks as a number of 64 bits: that of its normal form, for a spelling makes no other prompt.

    Of a million prompts two that differ have one number with a chance of 1 in 30 million; the texts themselves would
    take ten times the memory.
    """
    parts = [np.array([], dtype=np.uint64)]
    for start in range(0, len(rows), CHUNK):
        part = rows.iloc[start : start + CHUNK]
        pairs = zip(part["prompt"], part["text_pair"], strict=True)
        asked = [f"{normal_form(prompt)}\0{normal_form(pair)}" for prompt, pair in pairs]
        parts.append(pd.util.hash_array(np.array(asked, dtype=object), categorize=False))
    found: pd.Series[int] = pd.Series(np.concatenate(parts).view("int64"), index=rows.index, dtype="int64")
    return found


def hold_out(
    rows: pd.DataFrame, asked: pd.Series[int], shares: Mapping[str, float], seed: int, *, by_fact: bool
) -> dict[str, pd.DataFrame]:
    """Part the training rows by lot.

    Args:
        rows: all of them.
        asked: what each asks; rows that ask the same go together.
        shares: role -> share of the rows that is held out for it. A prompt of several rows may carry a role over it.
        seed: of the lot.
        by_fact: hold out other wordings of what is trained: of each fact one prompt at least stays.

    Returns:
        Rows per role, and of "train" the rest: one prompt at least. Where targets are labels, the same share of each.
    """
    order = _drawn(rows, seed, by_fact=by_fact)
    prompts = pd.factorize(asked.loc[order])[0]  # the number of each row's prompt, in the order drawn
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


def _drawn(rows: pd.DataFrame, seed: int, *, by_fact: bool) -> pd.Index[Any]:
    """Order rows by their lots; where targets are labels, or answers as few, each spread evenly over the order."""
    order = rows[["id", "target"]].iloc[lots(rows["id"], seed + 1).argsort(kind="stable")]
    if by_fact or order["target"].nunique() >= len(order) / 2:
        return order.index
    place = order.groupby("target").cumcount() + lots(order["target"], seed + 2) / 2.0**64
    return (place / order["target"].map(order["target"].value_counts())).sort_values().index


def share_answers(rows: pd.DataFrame, asked: pd.Series[int]) -> pd.DataFrame:
    """Give each row the targets of the rows that ask the same as further right answers, after its own.

    A line break in an answer becomes a blank there, for `aliases` has one answer a line.

    Args:
        rows: with ROW_COLUMNS.
        asked: what each asks.
    """
    several = asked.duplicated(keep=False).to_numpy() & (rows["target"] != "").to_numpy()
    aliases = rows["aliases"].copy()
    for _, group in rows[several].groupby(asked[several].to_numpy(), sort=False):
        own = [[" ".join(target.split()), *filter(None, further.split("\n"))]
               for target, further in zip(group["target"], group["aliases"], strict=True)]  # fmt: skip
        everything = dict.fromkeys(answer for answers in own for answer in answers)
        aliases[group.index] = [
            "\n".join(dict.fromkeys(a for a in (*answers[1:], *everything) if a != answers[0])) for answers in own
        ]
    return rows.assign(aliases=aliases)


def lots(names: pd.Series[str], seed: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Give each name its lot."""
    return pd.util.hash_array(names.to_numpy(dtype=object), hash_key=f"{seed:016d}"[-16:], categorize=False)
