"""From per-item results to the numbers of the leaderboard."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.common.errors import UserError
from knowtune.common.files import read_rows, read_tensors, write_rows
from knowtune.common.statistics import mean_interval
from knowtune.evaluation.metrics import METRICS
from knowtune.evaluation.metrics.base import Judged, Metric
from knowtune.registry import member_class

if TYPE_CHECKING:
    import torch

    from knowtune.tasks.base import Task


@dataclass(frozen=True)
class Results:
    """What judging one model gave.

    Args:
        items: id, fact, relation, kind, target, aliases, correct, loss; of a classifier predicted; where some have an
            old answer old_loss; and where a metric reads answers also answer and distance.
        texts: id, num_tokens, and of a language model loss.
        states: of a classifier, mean-pooled states of each text  # (text, hidden).
    """

    items: pd.DataFrame
    texts: pd.DataFrame
    states: torch.Tensor | None

    def write(self, folder: Path) -> None:
        """Write items.jsonl, texts.jsonl and states.safetensors (empty where there are none)."""
        from safetensors.torch import save_file

        write_rows(folder / "items.jsonl", self.items)
        write_rows(folder / "texts.jsonl", self.texts)
        save_file({} if self.states is None else {"states": self.states}, folder / "states.safetensors")

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Read what `write` wrote."""
        texts = read_rows(folder / "texts.jsonl", ["id", "num_tokens"])
        return cls(read_rows(folder / "items.jsonl"), texts, read_tensors(folder / "states.safetensors").get("states"))


def beside_base(own: Results, base: Results, task: Task) -> Judged:
    """Put the pristine base's result beside each item's and text's own.

    Raises:
        UserError: the base was judged on other items, or was not asked for its answers.
    """
    if own.items["id"].tolist() != base.items["id"].tolist() or own.texts["id"].tolist() != base.texts["id"].tolist():
        raise UserError("evaluate: the baseline has other items than this evaluation; run the baseline stage again")
    items, texts = own.items, own.texts
    items = items.assign(base_correct=base.items["correct"].astype(bool), base_loss=base.items["loss"].astype(float))
    if "distance" in items:
        if "distance" not in base.items:
            raise UserError("evaluate: the baseline has no answers, which a metric reads; run the baseline stage again")
        distances = base.items["distance"].astype(float)  # NaN comes back from a file as None
        items = items.assign(base_answer=base.items["answer"], base_distance=distances)
    if "loss" in texts:
        texts = texts.assign(base_loss=base.texts["loss"].astype(float))
    states, base_states = (None if r.states is None else r.states.double().numpy() for r in (own, base))
    return Judged(items, texts, states, base_states, labels=getattr(task, "labels", ()))


CONSTANT = {"classification": "majority", "regression": "mean"}  # task -> what its constant answer is called


def constant_answer(kind: str, train: pd.DataFrame, test: pd.DataFrame, task: Task) -> tuple[str, Judged] | None:
    """Judge what needs no model: always the most frequent label of the training rows, or the mean of their scores.

    Args:
        kind: the task's name; None is returned for one that has no such answer.
        train: training rows; damaged ones without a target are left out.
        test: evaluation items.
        task: has the labels, whose order decides between equally frequent ones.

    Returns:
        The answer, and the items with it as prediction.
    """
    targets = train["target"][train["target"] != ""]
    if kind not in CONSTANT or targets.empty:
        return None
    if kind == "classification":
        counts = targets.value_counts()
        answer = max(getattr(task, "labels", counts.index), key=lambda label: counts.get(label, 0))
    else:
        answer = f"{targets.astype(float).mean():.6g}"
    items = test.assign(predicted=answer, correct=test["target"] == answer)
    return answer, Judged(items, pd.DataFrame({"num_tokens": []}), labels=getattr(task, "labels", ()))


def reads_answers(names: Sequence[str]) -> bool:
    """Tell whether one of the named metrics needs answers in words."""
    return any(member_class(METRICS, "metric", name).reads_answers for name in names)


def reads_whole_answers(names: Sequence[str]) -> bool:
    """Tell whether one of the named metrics needs answers that go on beyond the length of what is right."""
    return any(member_class(METRICS, "metric", name).reads_whole_answers for name in names)


def compute_metrics(names: Sequence[str], judged: Judged) -> dict[str, float]:
    """Compute the named metrics; one that the data has nothing to measure on, or that is not finite, is left out."""
    found = {}
    for name in names:
        metric: Metric = member_class(METRICS, "metric", name)()
        value = metric.compute(judged)
        if value is not None and math.isfinite(value):
            found[name] = value
        elif value is not None:
            print(f"{name}: got {value}, which no table can hold; a dash stands for it", file=sys.stderr)
    return found


def over_seeds(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return, per metric, mean and 95 % interval over the seeds that have it, and how many seeds are without.

    Returns:
        Per metric that a seed has: see `mean_interval`; and `without`, where seeds are without it.
    """
    names = dict.fromkeys(name for values in metrics.values() for name in values)
    found: dict[str, Any] = {}
    for name in names:
        having = [values[name] for values in metrics.values() if name in values]
        without = len(metrics) - len(having)
        found[name] = {**mean_interval(having), **({"without": without} if without else {})}
    return found
