from __future__ import annotations

from knowtune.evaluation.metrics.answer_loss import AnswerLoss
from knowtune.evaluation.metrics.base import Judged
from tests.unit.evaluation.metrics.tables import EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(AnswerLoss()) == 1.0


def test_none_without_items() -> None:
    assert without(AnswerLoss(), "generalisation") is None
    assert AnswerLoss().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None


def test_each_row_counts_alike() -> None:
    held_out = EXAMPLES["kind"] == "generalisation"
    losses = EXAMPLES["loss"].where(~held_out, 3.0)
    assert AnswerLoss().compute(Judged(EXAMPLES.assign(loss=losses), TEXTS)) == 3.0
