from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.text_drift import TextDrift
from tests.unit.evaluation.metrics.tables import EXAMPLES, TEXTS, compute


def test_by_hand() -> None:
    assert compute(TextDrift()) == 0.125  # (30 * 0.5 - 10 * 1) / 40


def test_none_without_texts() -> None:
    assert TextDrift().compute(Judged(EXAMPLES, TEXTS[:0])) is None
