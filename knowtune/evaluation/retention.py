"""Measure a model on a set of `evaluate.retention`, row by row, and compare it with the pristine base.

    text             loss of each text in nats per token
    facts            a row is right when every token of its target is the model's first choice
    classification   a row is right when its label is the likeliest of all labels, each in nats per token
    harness          a document of a task is right when the task says so, see `knowtune.evaluation.harness`

A classification needs no head: labels are answers in words, as in few-shot evaluation (Brown et al., arXiv 2005.14165,
2.4; dividing by the number of tokens is their rule too).

*The noise floor* is how much the base differs from itself at another batch size, which changes the order of sums and so
the last bits: the share of rows whose verdict turns, of texts the mean change of loss without its sign. A difference
that is not clearly larger says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.common.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from knowtune.checkpoints.base import Base
    from knowtune.evaluation.harness import HarnessTask

DESCRIBED = ["id", "fact", "relation", "target"]


@dataclass(frozen=True)
class RetentionSet:
    """A set that models are measured on.

    Args:
        name: of the set.
        kind: text, facts, classification or harness.
        rows: of the data contract; of texts id and text.
        labels: of a classification; else ().
        task: of the harness; else None.
    """

    name: str
    kind: str
    rows: pd.DataFrame
    labels: Sequence[str] = ()
    task: HarnessTask | None = None


@dataclass(frozen=True)
class Reading:
    """How sets are read.

    Args:
        batch_size: rows per forward pass.
        max_text_tokens: where texts are cut.
    """

    batch_size: int
    max_text_tokens: int

    def at_another_batch_size(self) -> Reading:
        """Give what the noise floor is measured with."""
        return Reading(other_batch_size(self.batch_size), self.max_text_tokens)


def other_batch_size(size: int) -> int:
    """Give the batch size of the noise floor: half as many rows at a time, or two in place of one."""
    return size // 2 or 2


def measure(on: RetentionSet, model: torch.nn.Module, base: Base, how: Reading, label: str) -> pd.DataFrame:
    """Measure a model on a set.

    Args:
        on: the set.
        model: in evaluation mode; left as it is.
        base: whose tokenizer and task it has.
        how: batch size and length.
        label: what progress bars say.

    Returns:
        Per row id, fact, relation, target, correct, loss, and of a classification predicted; of texts id, loss and
        num_tokens; of a task of the harness no loss.
    """
    evaluator, tokenizer, name = base.task.evaluator, base.tokenizer(), f"{label}: {on.name}"
    if on.kind == "text":
        longest = min(how.max_text_tokens, base.context)
        read, _ = evaluator.read_texts(model, tokenizer, on.rows["text"].tolist(), how.batch_size, longest, name)
        return pd.concat([on.rows[["id"]], read[["loss", "num_tokens"]]], axis=1)
    if on.task is not None:
        from knowtune.evaluation.harness import measure_task

        verdicts = measure_task(on.task, model, base, how.batch_size, name)
        return on.rows[DESCRIBED].assign(correct=verdicts.set_index("id")["correct"].loc[on.rows["id"]].to_numpy())
    if on.kind == "facts":
        judged = evaluator.judge(model, tokenizer, on.rows.assign(old=""), how.batch_size, name)
        return pd.concat([on.rows[DESCRIBED], judged[["correct", "loss"]]], axis=1)
    every = on.rows.assign(aliases="", old="")
    losses = pd.DataFrame(
        {
            one: evaluator.judge(model, tokenizer, every.assign(target=one), how.batch_size, f"{name}, {one}")["loss"]
            for one in on.labels
        }
    )
    predicted = losses.idxmin(axis=1)
    own = [float(losses[target][index]) for index, target in on.rows["target"].items()]
    judged = on.rows[DESCRIBED].assign(correct=predicted == on.rows["target"], loss=own)
    return judged.assign(predicted=predicted)


def level(results: pd.DataFrame) -> float:
    """Return the share of rows that are right; of texts the mean loss over tokens."""
    if "correct" in results:
        return float(results["correct"].astype(bool).mean())
    return float((results["loss"] * results["num_tokens"]).sum(skipna=False) / results["num_tokens"].sum())


def noise_floor(results: pd.DataFrame, again: pd.DataFrame) -> float:
    """Return how much the same model differs from itself; see the module's text.

    Args:
        results: of the base.
        again: of the base at another batch size.
    """
    if "correct" in results:
        return float((results["correct"].astype(bool) != again["correct"].astype(bool)).mean())
    change = (results["loss"] - again["loss"]).abs() * results["num_tokens"]
    return float(change.sum(skipna=False) / results["num_tokens"].sum())


def beside(own: pd.DataFrame, base: pd.DataFrame, name: str) -> pd.DataFrame:
    """Put the base's results beside a model's own: base_loss, and base_correct where rows are right or wrong.

    Raises:
        UserError: they are of other rows.
    """
    if own["id"].tolist() != base["id"].tolist():
        raise UserError(
            f"evaluate.retention.{name}: the base was measured on other rows; run the retention stage again"
        )
    columns = {f"base_{name}": base[name] for name in ("correct", "loss") if name in own}
    return own.assign(**columns)


def changes(results: pd.DataFrame) -> dict[str, float]:
    """Return how a model differs from the base.

    Args:
        results: as `beside` gives them.

    Returns:
        `change`: of the level. Of rows that are right or wrong also `lost`, the share lost of those that the base has
        right, and `gained`, the share gained of the others; left out where there are none.
    """
    base = results.drop(columns=["correct", "loss"], errors="ignore")
    base = base.rename(columns={"base_correct": "correct", "base_loss": "loss"})
    found = {"change": level(results) - level(base)}
    if "correct" not in results:
        return found
    correct, before = results["correct"].astype(bool), results["base_correct"].astype(bool)
    parts = {"lost": ~correct[before], "gained": correct[~before]}
    return {**found, **{name: float(part.mean()) for name, part in parts.items() if len(part)}}


def describe(on: RetentionSet, results: pd.DataFrame, again: pd.DataFrame, num_rejected: int) -> dict[str, Any]:
    """Say what the pristine base is on a set.

    Args:
        on: the set.
        results: the base's.
        again: the base's at another batch size.
        num_rejected: rows that could not be used.

    Returns:
        kind, num, level, noise, rejected, and right where rows are right or wrong.
    """
    right = {"right": int(results["correct"].sum())} if "correct" in results else {}
    about: Mapping[str, Any] = {"kind": on.kind, "num": len(results), "level": level(results), "rejected": num_rejected}
    return {**about, "noise": noise_floor(results, again), **right}
