"""Semantic distance: how far a model's answer is from its target in meaning.

    d = 1 - cos(v(answer), v(target))     in [0, 2]

A reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292), whose formulas we do not have: that paper
measures how far the model's own answer lies from the right one; v is our choice.

v       a representation of a text, see `knowtune.semantics.representations`; always of the pristine base
d = 1   where a text has no token, or a vector has no length; 0 where both texts are the same

Like is compared with like: a base that does not stop where the answer ends would be far from every target, so that its
answer is cut to the target's number of tokens; a word that this would cut through may go on for m tokens more. Of
several right answers the nearest counts.

For a classifier, answer and target are names of labels, and the distance is that between the words: 0 where it is
right, small for labels that mean nearly the same. A base whose head is new guesses at random, and its distances
are as random. A score has no distance: NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from knowtune.common.progress import progress
from knowtune.text.special_tokens import tokenise

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


Vectors = Callable[[Sequence[str]], "torch.Tensor"]


CHUNK = 1024  # texts, or pairs of vectors, that are worked on at a time
DECIMALS = 6  # of a distance; coarser than what another batch changes, so that equals stay equal


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


def text_distances(
    vectors: Vectors,
    answers: Sequence[str],
    targets: Sequence[Sequence[str]],
    cut: Callable[[Sequence[str], Sequence[str]], list[str]] | None = None,
    label: str = "distances",
) -> list[float]:
    """Return how far each answer is from its target. Equal texts are turned into vectors once.

    Args:
        vectors: see `knowtune.semantics.representations.base.Representation.open`.
        answers: of a model.
        targets: what is right: one answer or several, of which the nearest counts.
        cut: shortens answers to what is to be compared with their right answers; None: as they are.
        label: what the progress bar says.
    """
    rows = [row for row, target in enumerate(targets) for _ in target]
    rights = [right for target in targets for right in target]
    compared = [answers[row] for row in rows]
    compared = compared if cut is None else cut(compared, rights)
    nearest = [2.0] * len(answers)
    for row, distance in zip(rows, _pair_distances(vectors, compared, rights, label), strict=True):
        nearest[row] = min(nearest[row], distance)
    return nearest


def _pair_distances(vectors: Vectors, answers: Sequence[str], rights: Sequence[str], label: str) -> list[float]:
    """Return the distance of each pair of texts."""
    import torch

    texts = list(dict.fromkeys([*answers, *rights]))
    if not texts:
        return []
    index = {text: number for number, text in enumerate(texts)}
    starts = range(0, len(texts), CHUNK)
    table = torch.cat([vectors(texts[start : start + CHUNK]) for start in progress(starts, label)])  # (text, width)
    pairs = list(dict.fromkeys(zip(answers, rights, strict=True)))
    distances: dict[tuple[str, str], float] = {}
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start : start + CHUNK]
        one, other = (table[[index[pair[side]] for pair in chunk]] for side in (0, 1))
        for pair, distance in zip(chunk, cosine_distance(one, other).tolist(), strict=True):
            distances[pair] = 0.0 if pair[0] == pair[1] and pair[0] else round(distance, DECIMALS)
    return [distances[pair] for pair in zip(answers, rights, strict=True)]


def cut_to_length(
    tokenizer: PreTrainedTokenizerBase, extra_tokens: int, answers: Sequence[str], rights: Sequence[str]
) -> list[str]:
    """Cut each answer to as many tokens as its right answer has; a word cut through goes on, up to `extra_tokens` (m).

    So "Rome. It is" is compared with "Rome" as "Rome", but "Romeo" as itself. White space around an answer counts only
    where the right answer has some there: a base that begins a line first has still answered "Rome".
    """
    answers = [_trim(answer, right) for answer, right in zip(answers, rights, strict=True)]
    offsets_of = [offsets for _, offsets in tokenise(tokenizer, answers)]
    counts = [len(ids) for ids, _ in tokenise(tokenizer, list(rights))]
    cut = [
        answer[: _end(answer, [end for _, end in offsets], count, extra_tokens)]
        for answer, offsets, count in zip(answers, offsets_of, counts, strict=True)
    ]
    return [_trim(answer, right) for answer, right in zip(cut, rights, strict=True)]


def _trim(answer: str, right: str) -> str:
    """Remove white space at an answer's ends where the right answer has none."""
    answer = answer if right[:1].isspace() else answer.lstrip()
    return answer if right[-1:].isspace() else answer.rstrip()


def _end(answer: str, ends: Sequence[int], count: int, extra: int) -> int:
    """Return after which character to cut an answer whose tokens end at `ends`."""
    if len(ends) <= count or not count:
        return len(answer) if count else 0
    last = min(count + extra, len(ends))
    while count < last and answer[ends[count - 1] - 1 : ends[count - 1] + 1].isalnum():
        count += 1
    return ends[count - 1]
