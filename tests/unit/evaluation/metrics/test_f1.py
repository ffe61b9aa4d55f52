from __future__ import annotations

from dataclasses import replace

import pytest

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.f1 import F1
from tests.unit.evaluation.metrics.tables import CLASSIFICATION, NUM_TOKENS, answered, emptied


def test_by_hand() -> None:
    assert F1().compute(CLASSIFICATION) == 2 * 3 / (2 * 3 + 1 + 1)


def test_the_second_label_is_the_positive_one() -> None:
    turned = replace(CLASSIFICATION, labels=("good", "bad"))
    assert F1().compute(turned) == pytest.approx(2 * 5 / (2 * 5 + 1 + 1))


def test_the_mean_over_more_than_two_labels() -> None:
    examples = answered(["a", "a", "b", "c"], ["a", "b", "b", "b"])
    found = F1().compute(Judged(examples, NUM_TOKENS, labels=("a", "b", "c")))
    assert found == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)


def test_a_label_that_nothing_has_counts_for_nothing() -> None:
    examples = answered(["a", "b"], ["a", "b"])
    assert F1().compute(Judged(examples, NUM_TOKENS, labels=("a", "b", "c", "d"))) == 1.0


def test_a_label_that_is_only_predicted_counts() -> None:
    examples = answered(["a", "a"], ["a", "c"])
    assert F1().compute(Judged(examples, NUM_TOKENS, labels=("a", "b", "c"))) == pytest.approx((2 / 3 + 0) / 2)


def test_none_where_nothing_is_or_is_called_positive() -> None:
    examples = answered(["bad", "bad"], ["bad", "bad"])
    assert F1().compute(Judged(examples, NUM_TOKENS, labels=("bad", "good"))) is None


def test_a_label_that_is_never_predicted_is_zero_without_a_warning() -> None:
    examples = answered(["good", "bad"], ["bad", "bad"])
    assert F1().compute(Judged(examples, NUM_TOKENS, labels=("bad", "good"))) == 0.0


def test_none_without_items() -> None:
    assert F1().compute(emptied(CLASSIFICATION)) is None
