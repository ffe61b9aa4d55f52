"""Hand-made results of a model beside the base's."""

from __future__ import annotations

import pandas as pd

from knowtune.families import Metric

_KINDS = [*["reliability"] * 4, *["generalisation"] * 5, *["locality"] * 8]
_CORRECT = [*[1, 1, 1, 0], *[1, 0, 0, 0, 0], *[1, 1, 0, 0, 1, 1, 0, 0]]
_BASE = [*[0, 0, 1, 0], *[0, 0, 0, 0, 1], *[1, 1, 1, 1, 1, 0, 0, 0]]
ITEMS = pd.DataFrame(
    {
        "id": [str(i) for i in range(17)],
        "fact": "f",
        "relation": "r",
        "kind": _KINDS,
        "correct": [bool(c) for c in _CORRECT],
        "loss": 1.0,
        "base_correct": [bool(c) for c in _BASE],
        "base_loss": 2.0,
    }
)
TEXTS = pd.DataFrame({"id": ["a", "b"], "loss": [2.0, 1.0], "base_loss": [1.5, 2.0], "num_tokens": [30, 10]})


def compute(metric: Metric) -> float | None:
    return metric.compute(ITEMS, TEXTS)


def without(metric: Metric, kind: str) -> float | None:
    return metric.compute(ITEMS[ITEMS["kind"] != kind], TEXTS)
