"""Rows of the same prompt: they are held out together, and may be right answers of each other."""

from __future__ import annotations

import numpy as np
import pandas as pd

from knowtune.data.records import CHUNK
from knowtune.text.normalize import normal_form


def prompt_keys(rows: pd.DataFrame) -> pd.Series[int]:
    """Give each row's prompt as a number of 64 bits: that of its normal form, for a spelling makes no other prompt.

    Of a million prompts two that differ have one number with a chance of 1 in 30 million; the texts themselves would
    take ten times the memory.
    """
    parts = [np.array([], dtype=np.uint64)]
    for start in range(0, len(rows), CHUNK):
        part = rows.iloc[start : start + CHUNK]
        pairs = zip(part["prompt"], part["text_pair"], strict=True)
        prompts = [f"{normal_form(prompt)}\0{normal_form(pair)}" for prompt, pair in pairs]
        parts.append(pd.util.hash_array(np.array(prompts, dtype=object), categorize=False))
    return pd.Series(np.concatenate(parts).view("int64"), index=rows.index, dtype="int64")


def share_answers(rows: pd.DataFrame, prompts: pd.Series[int]) -> pd.DataFrame:
    """Give each row the targets of the rows of its prompt as further right answers, after its own.

    A line break in an answer becomes a blank there, for `aliases` has one answer a line.

    Args:
        rows: with ROW_COLUMNS.
        prompts: see `prompt_keys`.
    """
    several = prompts.duplicated(keep=False).to_numpy() & (rows["target"] != "").to_numpy()
    aliases = rows["aliases"].copy()
    for _, group in rows[several].groupby(prompts[several].to_numpy(), sort=False):
        own = [[" ".join(target.split()), *filter(None, further.split("\n"))]
               for target, further in zip(group["target"], group["aliases"], strict=True)]  # fmt: skip
        everything = dict.fromkeys(answer for answers in own for answer in answers)
        aliases[group.index] = [
            "\n".join(dict.fromkeys(a for a in (*answers[1:], *everything) if a != answers[0])) for answers in own
        ]
    return rows.assign(aliases=aliases)
