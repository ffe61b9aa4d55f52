from __future__ import annotations

import pytest

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.token_f1 import TokenF1
from tests.unit.evaluation.metrics.tables import ANSWERED, EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(TokenF1()) == pytest.approx((2 * 3 / 6 + 2 / 4 + 2 / 4 + 0 + 0) / 5)


def test_none_without_items() -> None:
    assert without(TokenF1(), "generalisation") is None
    assert TokenF1().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None


def test_none_where_no_answer_was_asked_for() -> None:
    assert TokenF1().compute(Judged(EXAMPLES.assign(target="x", aliases=""), TEXTS)) is None


def test_the_best_of_several_right_answers_counts() -> None:
    assert TokenF1().compute(Judged(ANSWERED.assign(answer="It is 7", target="6", aliases="5\n7"), TEXTS)) == 0.5
