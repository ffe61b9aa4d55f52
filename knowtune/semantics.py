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

if TYPE_CHECKING:
    import torch

Vectors = Callable[[Sequence[str]], "torch.Tensor"]
CHUNK = 1024  # pairs of texts whose vectors are held at a time


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
