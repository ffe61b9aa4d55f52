from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.final_number import FinalNumber
from tests.unit.evaluation.metrics.tables import ANSWERED, EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(FinalNumber()) == 1.0  # of the two that have a number


def test_none_without_items() -> None:
    assert without(FinalNumber(), "generalisation") is None
    assert FinalNumber().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None


def test_none_where_no_answer_was_asked_for() -> None:
    assert FinalNumber().compute(Judged(EXAMPLES.assign(target="x", aliases=""), TEXTS)) is None


def test_the_best_of_several_right_answers_counts() -> None:
    assert FinalNumber().compute(Judged(ANSWERED.assign(answer="It is 7", target="6", aliases="5\n7"), TEXTS)) == 1.0


def test_none_where_no_right_answer_has_a_number() -> None:
    assert FinalNumber().compute(Judged(ANSWERED.assign(target="Rome"), TEXTS)) is None
