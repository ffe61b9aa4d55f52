"""Semantic distance: how far a model's answer is from its target in meaning.

    d = 1 - cos(v(answer), v(target))     in [0, 2]

A reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292), whose formulas are not public to us: that
paper measures how far the model's own answer lies from the right one; what v is, it does not say to us.

v       a representation of a text, see `knowtune.representations`; always of the pristine base
d = 1   where a text has no token, or a vector has no length; 0 where both texts are the same
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from knowtune.families import Task

Vectors = Callable[[Sequence[str]], "torch.Tensor"]
CHUNK = 1024  # pairs of texts whose vectors are held at a time
PUSHED = 0.01  # a distance that grew by more than this was pushed away; what is less may be rounding


def cosine_distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return 1 - cosine row by row, in float64 and within [0, 2]; 1 where a vector has no length.

    Args:
        one: any float  # (rows, width)
        other: of the same shape.
    """
    one, other = one.double(), other.double()
    lengths = one.norm(dim=1) * other.norm(dim=1)  # (rows,)
    cosines = (one * other).sum(1) / lengths.where(lengths > 0, 1.0)
    distances: torch.Tensor = (1.0 - cosines).clamp(0.0, 2.0)
    return distances


def text_distances(vectors: Vectors, answers: Sequence[str], targets: Sequence[str]) -> list[float]:
    """Return how far each answer is from its target.

    Args:
        vectors: see `knowtune.families.Representation.opened`.
        answers: of a model.
        targets: what is right; several right answers stand one a line, and the nearest counts.
    """
    pairs = [(i, a, right) for i, (a, t) in enumerate(zip(answers, targets, strict=True)) for right in t.split("\n")]
    found = [2.0] * len(answers)
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start : start + CHUNK]
        texts = [text for _, *both in chunk for text in both]
        both = vectors(texts)  # (2 * pairs, width)
        for (row, answer, right), distance in zip(chunk, cosine_distance(both[::2], both[1::2]).tolist(), strict=True):
            found[row] = min(found[row], 0.0 if answer == right and answer else distance)
    return found


def answered(
    task: Task,
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    vectors: Vectors,
    *,
    batch_size: int,
    max_new_tokens: int,
    label: str,
    said: pd.Series[str] | None = None,
) -> pd.DataFrame:
    """Let a model answer rows, and measure how far each answer is from the nearest right one.

    Args:
        task: how rows are asked.
        model: in evaluation mode; left as it is.
        tokenizer: the base's.
        rows: of the data contract, with target and aliases.
        vectors: of the pristine base, whichever model answers.
        batch_size: rows that are asked at a time; answers depend on it by rounding alone.
        max_new_tokens: where an answer is cut.
        label: what the progress bar says.
        said: answers that are known already, on the index of `rows`; missing where the model must be asked.

    Returns:
        `answer` and `distance`, on the index of `rows`.
    """
    known = pd.Series(None, index=rows.index, dtype="str") if said is None else said.astype("str")
    asked = rows[known.isna()]
    told = task.answers(model, tokenizer, asked, batch_size, max_new_tokens, label) if len(asked) else []
    answers = known.fillna(pd.Series(told, index=asked.index, dtype="str"))
    right = (rows["target"] + "\n" + rows["aliases"]).str.rstrip("\n")
    distances = text_distances(vectors, answers.tolist(), right.tolist())
    return pd.DataFrame({"answer": answers, "distance": pd.Series(distances, rows.index, dtype=float)})


def changes(items: pd.DataFrame) -> pd.Series[float]:
    """Return how much farther from its target each answer is than the pristine base's was.

    Args:
        items: with distance and base_distance; others, and those without a distance, have no change.

    Returns:
        One number per item that has both, in [-2, 2], on the index of `items`.
    """
    if "distance" not in items or "base_distance" not in items:
        return pd.Series(dtype=float)
    return (items["distance"].astype(float) - items["base_distance"].astype(float)).dropna()
