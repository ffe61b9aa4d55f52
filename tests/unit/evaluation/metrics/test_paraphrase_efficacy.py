from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.paraphrase_efficacy import ParaphraseEfficacy
from tests.unit.evaluation.metrics.tables import ANSWERED, EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(ParaphraseEfficacy()) == 3 / 4  # losses of 1 against 2, 3, 0.5 and 1.5


def test_none_without_items() -> None:
    assert without(ParaphraseEfficacy(), "generalisation") is None
    assert ParaphraseEfficacy().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None


def test_examples_without_an_old_answer_are_left_out() -> None:
    assert ParaphraseEfficacy().compute(Judged(EXAMPLES, TEXTS)) is None
    assert ParaphraseEfficacy().compute(Judged(ANSWERED.assign(old_loss=None), TEXTS)) is None


def test_equally_likely_is_not_likelier() -> None:
    assert ParaphraseEfficacy().compute(Judged(EXAMPLES.assign(old_loss=1.0), TEXTS)) == 0.0
