"""The baseline that needs no model: always the most frequent label, or the mean score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from knowtune.evaluation.metrics.base import Judged

if TYPE_CHECKING:
    from knowtune.tasks.base import Task

CONSTANT = {"classification": "majority", "regression": "mean"}  # task -> what its constant answer is called


def constant_answer(kind: str, train: pd.DataFrame, test: pd.DataFrame, task: Task) -> tuple[str, Judged] | None:
    """Judge what needs no model: always the most frequent label of the training rows, or the mean of their scores.

    Args:
        kind: the task's name; None is returned for one that has no such answer.
        train: training rows; noisy ones without a target are left out.
        test: evaluation examples.
        task: has the labels, whose order decides between equally frequent ones.

    Returns:
        The answer, and the examples with it as prediction.
    """
    targets = train["target"][train["target"] != ""]
    if kind not in CONSTANT or targets.empty:
        return None
    if kind == "classification":
        counts = targets.value_counts()
        answer = max(getattr(task, "labels", counts.index), key=lambda label: counts.get(label, 0))
    else:
        answer = f"{targets.astype(float).mean():.6g}"
    examples = test.assign(predicted=answer, correct=test["target"] == answer)
    return answer, Judged(examples, pd.DataFrame({"num_tokens": []}), labels=getattr(task, "labels", ()))
