"""From per-item results to the numbers of the leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from knowtune.errors import UserError
from knowtune.families import Metric, member_class
from knowtune.metrics import METRICS
from knowtune.statistics import mean_interval


def beside_base(
    items: pd.DataFrame, texts: pd.DataFrame, base_items: pd.DataFrame, base_texts: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put the pristine base's result beside each item's and text's own.

    Raises:
        UserError: the base was judged on other items.
    """
    if items["id"].tolist() != base_items["id"].tolist() or texts["id"].tolist() != base_texts["id"].tolist():
        raise UserError("evaluate: the baseline has other items than this evaluation; run the baseline stage again")
    return (
        items.assign(base_correct=base_items["correct"].astype(bool), base_loss=base_items["loss"].astype(float)),
        texts.assign(base_loss=base_texts["loss"].astype(float)),
    )


def compute_metrics(names: Sequence[str], items: pd.DataFrame, texts: pd.DataFrame) -> dict[str, float]:
    """Compute the named metrics; one that the data has nothing to measure on is left out."""
    found = {}
    for name in names:
        metric: Metric = member_class(METRICS, "metric", name)()
        value = metric.compute(items, texts)
        if value is not None:
            found[name] = value
    return found


def over_seeds(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return, per metric, mean and 95 % interval over seeds."""
    names = next(iter(metrics.values()))
    return {name: mean_interval([values[name] for values in metrics.values()]) for name in names}
