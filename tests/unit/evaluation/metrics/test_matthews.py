from __future__ import annotations

import pytest

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.matthews import Matthews
from tests.unit.evaluation.metrics.tables import CLASSIFICATION, NUM_TOKENS, answered, emptied


def test_by_hand() -> None:
    assert Matthews().compute(CLASSIFICATION) == pytest.approx((3 * 5 - 1 * 1) / (4 * 4 * 6 * 6) ** 0.5)


def judged(target: list[str], predicted: list[str]) -> float | None:
    return Matthews().compute(Judged(answered(target, predicted), NUM_TOKENS, labels=("bad", "good")))


def test_one_label_for_all_predictions_is_zero_by_convention_without_a_warning() -> None:
    assert judged(["good", "bad"], ["bad", "bad"]) == 0.0


def test_none_where_the_targets_are_of_one_label() -> None:
    assert judged(["bad", "bad"], ["bad", "bad"]) is None
    assert judged(["bad", "bad"], ["good", "bad"]) is None


def test_none_without_items() -> None:
    assert Matthews().compute(emptied(CLASSIFICATION)) is None
