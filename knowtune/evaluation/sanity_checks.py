"""Sanity checks of the base on its data: cautions where a number of the report says less than it seems to.

They are printed before training, and stand once more below the leaderboard.

- The base knows little of what is called known: then little can be forgotten, and the share is of few.
- The general texts are foreign to the base: it reads them hardly better than their words' frequencies alone would, or
  its vocabulary has not their words. What it never read well it cannot read much worse.
- Right answers are longer than answers may get: what is read of an answer is cut.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from knowtune.evaluation.compute_metrics import reads_answers
from knowtune.text.encode_rows import encode_texts
from knowtune.text.encoded import Encoded

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.checkpoints.base import Base
    from knowtune.evaluation.evaluate import EvaluationSet
    from knowtune.evaluation.results import Results

KNOWN = 0.5  # share of the known facts that the base should have right
FOREIGN = 0.8  # of the texts' entropy; a base that is at home is at about a half or below
UNKNOWN = 0.1  # share of tokens that the vocabulary has not


def check_baseline(on: EvaluationSet, base: Base, results: Results) -> list[str]:
    """Return cautions that follow from what the pristine base does with examples and texts.

    Args:
        on: the examples and texts.
        base: the pristine base.
        results: its own.
    """
    tokenizer, read = base.tokenizer(), results.texts
    ids = encode_texts(tokenizer, on.texts["text"].tolist(), min(on.max_text_tokens, base.context))
    losses = read["loss"] * read["num_tokens"] if "loss" in read and len(read) else None
    loss = None if losses is None else float(losses.sum() / read["num_tokens"].sum())
    cautions = check_known_facts(results.examples) + check_texts(loss, ids, tokenizer.unk_token_id)
    if reads_answers(on.metrics):
        rows = base.task.encode(tokenizer, on.examples)
        lengths = [row.target_end - row.target_start for row in rows if isinstance(row, Encoded)]
        cautions += check_answer_lengths(lengths, on.decoding.max_new_tokens)
    return cautions


def count_known(examples: pd.DataFrame) -> tuple[int, int] | None:
    """Count the known facts that the base has right, and all of them; None where there are none.

    Args:
        examples: of the base, with kind and correct.
    """
    known = examples[examples["kind"] == "locality"]["correct"].astype(bool)
    return (int(known.sum()), len(known)) if len(known) else None


def check_known_facts(examples: pd.DataFrame) -> list[str]:
    """Return a caution where the base knows little of what is called known.

    Args:
        examples: as for `count_known`.
    """
    counts = count_known(examples)
    if counts is None or counts[0] >= KNOWN * counts[1]:
        return []
    right, all_ = counts
    share = f"the base has only {right} of {all_} known facts right ({100 * right / all_:.0f} %)"
    if not right:
        return [f"{share}: nothing can be forgotten, so that `forgotten` and `locality` have no value"]
    return [f"{share}: `forgotten` and `locality` look at these {right} alone; give facts that the base knows"]


def check_texts(loss: float | None, texts: Sequence[Sequence[int]], unknown: int | None) -> list[str]:
    """Return a caution where general texts are foreign to the base.

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
    entropy = token_entropy(counts)
    if loss is None or loss < FOREIGN * entropy:
        return []
    compared = f"{loss:.2f} nats per token, and the frequencies of their tokens alone give {entropy:.2f}"
    return [
        f"the general texts are foreign to the base: it reads them with {compared}; text_drift says little; {advice}"
    ]


def token_entropy(counts: Counter[int]) -> float:
    """Return the entropy of the tokens' frequencies in nats per token, with Miller and Madow's correction for few."""
    total = counts.total()
    plain = -sum(count / total * math.log(count / total) for count in counts.values())
    return plain + (len(counts) - 1) / (2 * total)


def check_answer_lengths(lengths: Sequence[int], max_new_tokens: int) -> list[str]:
    """Return a caution where right answers are longer than answers may get.

    Args:
        lengths: tokens of each example's right answer.
        max_new_tokens: where answers end.
    """
    longer = [length for length in lengths if length > max_new_tokens]
    if not longer:
        return []
    return [
        f"{len(longer)} of {len(lengths)} right answers have more tokens than answers.max_new_tokens "
        f"({max_new_tokens}), up to {max(longer)}: models' answers are cut there, and what reads them sees parts"
    ]
