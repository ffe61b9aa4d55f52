from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.efficacy import Efficacy
from tests.unit.evaluation.metrics.tables import ANSWERED, EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(Efficacy()) == 1 / 3  # losses of 1 against 2, 0.5 and 1


def test_none_without_items() -> None:
    assert without(Efficacy(), "reliability") is None
    assert Efficacy().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None


def test_examples_without_an_old_answer_are_left_out() -> None:
    assert Efficacy().compute(Judged(EXAMPLES, TEXTS)) is None
    assert Efficacy().compute(Judged(ANSWERED.assign(old_loss=None), TEXTS)) is None


def test_equally_likely_is_not_likelier() -> None:
    assert Efficacy().compute(Judged(EXAMPLES.assign(old_loss=1.0), TEXTS)) == 0.0
