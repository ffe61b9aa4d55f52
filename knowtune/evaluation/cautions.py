"""What makes a number of the report say less than it seems to: said before training, and once more beside the numbers.

- The base knows little of what is called known: then little can be forgotten, and the share is of few.
- The general texts are foreign to the base: it reads them hardly better than their words' frequencies alone would, or
  its vocabulary has not their words. What it never read well it cannot read much worse.
- Right answers are longer than answers may get: what is read of an answer is cut.
- A label has no training row, so that it cannot be learned.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

KNOWN = 0.5  # share of the known facts that the base should have right
FOREIGN = 0.8  # of the texts' entropy; a base that is at home is at about a half or below
UNKNOWN = 0.1  # share of tokens that the vocabulary has not
SHOWN = 10  # labels that are named


def known_before(items: pd.DataFrame) -> tuple[int, int] | None:
    """Count the known facts that the base has right, and all of them; None where there are none.

    Args:
        items: of the base, with kind and correct.
    """
    known = items[items["kind"] == "locality"]["correct"].astype(bool)
    return (int(known.sum()), len(known)) if len(known) else None


def of_known(items: pd.DataFrame) -> list[str]:
    """Say whether the base knows enough of what is called known.

    Args:
        items: as for `known_before`.
    """
    counts = known_before(items)
    if counts is None or counts[0] >= KNOWN * counts[1]:
        return []
    right, all_ = counts
    share = f"the base has only {right} of {all_} known facts right ({100 * right / all_:.0f} %)"
    if not right:
        return [f"{share}: nothing can be forgotten, so that `forgotten` and `locality` have no value"]
    return [f"{share}: `forgotten` and `locality` look at these {right} alone; give facts that the base knows"]


def of_texts(loss: float | None, texts: Sequence[Sequence[int]], unknown: int | None) -> list[str]:
    """Say whether general texts are foreign to the base.

    Args:
        loss: of the base on them, in nats per token; None where it is no language model.
        texts: their tokens, with the start token.
        unknown: the token that stands for what the vocabulary has not.
    """
    counts = Counter(token for text in texts for token in text[1:])
    total = counts.total()
    if not total:
        return []
    advice = "give texts of the kind that it was trained on (source.text)"
    if unknown is not None and counts[unknown] >= UNKNOWN * total:
        share = f"{100 * counts[unknown] / total:.0f} %"
        return [
            f"the general texts are foreign to the base: {share} of their tokens are not in its vocabulary; {advice}"
        ]
    entropy = entropy_of(counts)
    if loss is None or loss < FOREIGN * entropy:
        return []
    found = f"{loss:.2f} nats per token, and the frequencies of their tokens alone give {entropy:.2f}"
    return [f"the general texts are foreign to the base: it reads them with {found}; text_drift says little; {advice}"]


def entropy_of(counts: Counter[int]) -> float:
    """Return the entropy of the tokens' frequencies in nats per token, with Miller and Madow's correction for few."""
    total = counts.total()
    plain = -sum(count / total * math.log(count / total) for count in counts.values())
    return plain + (len(counts) - 1) / (2 * total)


def of_lengths(lengths: Sequence[int], max_new_tokens: int) -> list[str]:
    """Say whether right answers are longer than answers may get.

    Args:
        lengths: tokens of each item's right answer.
        max_new_tokens: where answers end.
    """
    longer = [length for length in lengths if length > max_new_tokens]
    if not longer:
        return []
    return [
        f"{len(longer)} of {len(lengths)} right answers have more tokens than answers.max_new_tokens "
        f"({max_new_tokens}), up to {max(longer)}: models' answers are cut there, and what reads them sees parts"
    ]


def of_labels(labels: Sequence[str], train: pd.Series[str], test: pd.Series[str]) -> list[str]:
    """Say which labels cannot be learned.

    Args:
        labels: of the task.
        train: the training rows' labels.
        test: the test rows'.
    """
    trained = set(train)
    missing = [label for label in labels if label not in trained]
    if not missing:
        return []
    asked = test.value_counts()
    named = ", ".join(f"{label!r} ({asked.get(label, 0)} test rows)" for label in missing[:SHOWN])
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return [
        f"{len(missing)} of {len(labels)} labels have no training row, so that they cannot be learned: {named}{more}"
    ]
