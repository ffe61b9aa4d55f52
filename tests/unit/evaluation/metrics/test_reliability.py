from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.reliability import Reliability
from tests.unit.evaluation.metrics.tables import EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(Reliability()) == 3 / 4  # three of four


def test_none_without_items() -> None:
    assert without(Reliability(), "reliability") is None
    assert Reliability().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None
