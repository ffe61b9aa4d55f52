from __future__ import annotations

import pytest

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.spearman import Spearman
from tests.unit.evaluation.metrics.tables import NUM_TOKENS, REGRESSION, answered, emptied


def test_by_hand() -> None:
    assert Spearman().compute(REGRESSION) == pytest.approx(1.0)
    assert Spearman().compute(Judged(answered([1, 2, 3, 4], [1, 3, 2, 4]), NUM_TOKENS)) == pytest.approx(0.8)


def test_numbers_are_no_words() -> None:
    assert Spearman().compute(Judged(answered([2, 10, 100], [-5, 9.5, 10]), NUM_TOKENS)) > 0  # type: ignore[operator]


@pytest.mark.parametrize(("target", "predicted"), [([1, 2, 3], [5, 5, 5]), ([1, 1, 1], [1, 2, 3])])
def test_what_is_constant_has_no_correlation_and_no_warning(target: list[int], predicted: list[int]) -> None:
    assert Spearman().compute(Judged(answered(target, predicted), NUM_TOKENS)) is None


def test_none_of_fewer_than_two() -> None:
    assert Spearman().compute(emptied(REGRESSION)) is None
    assert Spearman().compute(Judged(answered([1], [2]), NUM_TOKENS)) is None
