from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.contains import Contains
from tests.unit.evaluation.metrics.tables import ANSWERED, EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(Contains()) == 2 / 5


def test_none_without_items() -> None:
    assert without(Contains(), "generalisation") is None
    assert Contains().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None


def test_none_where_no_answer_was_asked_for() -> None:
    assert Contains().compute(Judged(EXAMPLES.assign(target="x", aliases=""), TEXTS)) is None


def test_the_best_of_several_right_answers_counts() -> None:
    assert Contains().compute(Judged(ANSWERED.assign(answer="It is 7", target="6", aliases="5\n7"), TEXTS)) == 1.0
