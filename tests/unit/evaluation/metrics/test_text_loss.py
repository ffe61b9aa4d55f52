from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.text_loss import TextLoss
from tests.unit.evaluation.metrics.tables import EXAMPLES, TEXTS, compute


def test_by_hand() -> None:
    assert compute(TextLoss()) == 1.75  # (30 * 2 + 10 * 1) / 40


def test_none_without_texts() -> None:
    assert TextLoss().compute(Judged(EXAMPLES, TEXTS[:0])) is None
