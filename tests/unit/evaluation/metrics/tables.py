"""Hand-made results of a model beside the base's, one set per task."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi, sin
from typing import Any

import numpy as np
import pandas as pd

from knowtune.evaluation.metrics.base import Judged, Metric

_KINDS = [*["reliability"] * 4, *["generalisation"] * 5, *["locality"] * 8]
_CORRECT = [*[1, 1, 1, 0], *[1, 0, 0, 0, 0], *[1, 1, 0, 0, 1, 1, 0, 0]]
_BASE = [*[0, 0, 1, 0], *[0, 0, 0, 0, 1], *[1, 1, 1, 1, 1, 0, 0, 0]]
EXAMPLES = pd.DataFrame(
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
# Of the held-out rows, the answers to the first two are right, to the third in part; the last two have no number.
_TARGETS = [*[""] * 4, "the answer is 1,200", "18", "a red house", "Rome", "Oslo", *[""] * 8]
_ANSWERS = [*[""] * 4, "The answer is 1200.", "It is 18", "a red car", "It is Oslo", "Lima", *[""] * 8]
_OLD = [*[2.0, 0.5, None, 1.0], *[2.0, None, 3.0, 0.5, 1.5], *[None] * 8]
TEXTS = pd.DataFrame(
    {"id": ["a", "b"], "loss": [2.0, 1.0], "base_loss": [1.5, 2.0], "num_tokens": [30, 10], "kl": [0.5, 0.1]}
)
# Of the nine new facts one stays, five come nearer (to 0), three move away: by 0.1, 0.3 and 0.5.
_BEFORE = [0.5, 0.5, 0.0, 0.75, 0.5, 0.5, 1.0, 0.25, 0.5, *[0.0] * 8]
_AFTER = [0.0, 0.0, 0.0, 0.85, 0.0, 0.0, 1.3, 0.75, 0.0, *[0.0] * 6, 1.0, 1.0]
_PROMPTS = {"prompt_kl": [*[None] * 4, 0.5, 0.1, 0.2, 0.0, 0.4, *[None] * 8], "prompt_tokens": [None] * 17}
_PROMPTS["prompt_tokens"][4:9] = [4, 10, 5, 7, 5]
ANSWERED = EXAMPLES.assign(
    distance=_AFTER, base_distance=_BEFORE, target=_TARGETS, aliases="", answer=_ANSWERS, old_loss=_OLD
).assign(**{name: pd.Series(values, dtype=float) for name, values in _PROMPTS.items()})
KNOWLEDGE = Judged(ANSWERED, TEXTS)


def answered(target: list[Any], predicted: list[Any]) -> pd.DataFrame:
    """Examples of a classifier, in words."""
    table = pd.DataFrame({"target": [str(t) for t in target], "predicted": [str(p) for p in predicted]}, dtype="str")
    ids = [str(i) for i in range(len(table))]
    return table.assign(id=ids, kind="generalisation", correct=table["target"] == table["predicted"], loss=1.0)


def turned(*degrees: float) -> np.ndarray[Any, Any]:
    """States of several texts: vectors of unequal length at angles."""
    return np.array([[(i + 1) * cos(a * pi / 180), (i + 1) * sin(a * pi / 180)] for i, a in enumerate(degrees)])


# good: three found, one missed, one too many; bad: five found
REVIEWS = answered(["good"] * 4 + ["bad"] * 6, ["good", "good", "good", "bad", "good", *["bad"] * 5])
SCORES = answered([0, 1, 2, 3], [0, 1, 2, 9])
NUM_TOKENS = pd.DataFrame({"id": ["a", "b", "c"], "num_tokens": [30, 10, 5]})
STATES, BASE_STATES = turned(0, 60, 90), turned(0, 30, 90)
_LABELS_APART = REVIEWS.assign(distance=0.4 * (1 - REVIEWS["correct"].astype(float)), base_distance=[0.0, 0.4] * 5)
CLASSIFICATION = Judged(_LABELS_APART, NUM_TOKENS, STATES, BASE_STATES, labels=("bad", "good"))
REGRESSION = Judged(SCORES, NUM_TOKENS, STATES, BASE_STATES)
JUDGED = {"knowledge": KNOWLEDGE, "classification": CLASSIFICATION, "regression": REGRESSION}


def compute(metric: Metric) -> float | None:
    return metric.compute(KNOWLEDGE)


def without(metric: Metric, kind: str) -> float | None:
    return metric.compute(Judged(ANSWERED[ANSWERED["kind"] != kind], TEXTS))


def emptied(judged: Judged) -> Judged:
    """The same without an example or text."""
    states = None if judged.states is None else judged.states[:0]
    return replace(judged, examples=judged.examples[:0], texts=judged.texts[:0], states=states, base_states=states)


def reversed_(judged: Judged) -> Judged:
    """The same in another order."""
    states, base_states = (None if s is None else s[::-1] for s in (judged.states, judged.base_states))
    return replace(
        judged, examples=judged.examples[::-1], texts=judged.texts[::-1], states=states, base_states=base_states
    )


def best(judged: Judged) -> Judged:
    """Everything right, nothing forgotten."""
    examples = judged.examples.assign(correct=True, loss=0.0, distance=0.0)
    examples = examples.assign(**{said: examples["target"] for said in ("predicted", "answer") if said in examples})
    examples = examples.assign(prompt_kl=0.0) if "prompt_kl" in examples else examples
    texts = judged.texts.assign(loss=0.0, kl=0.0) if "loss" in judged.texts else judged.texts
    return replace(judged, examples=examples, texts=texts, states=judged.base_states)


def worst(judged: Judged) -> Judged:
    """Everything wrong, everything forgotten."""
    examples = judged.examples.assign(correct=False, loss=9.0, distance=2.0)
    examples = examples.assign(answer="no idea") if "answer" in examples else examples
    if "predicted" in examples:
        other = {"good": "bad", "bad": "good"}
        examples = examples.assign(
            predicted=[other.get(target) or str(-float(target)) for target in examples["target"]]
        )
    examples = examples.assign(prompt_kl=9.0) if "prompt_kl" in examples else examples
    texts = judged.texts.assign(loss=9.0, kl=9.0) if "loss" in judged.texts else judged.texts
    return replace(
        judged, examples=examples, texts=texts, states=None if judged.states is None else turned(180, 30, 40)
    )
