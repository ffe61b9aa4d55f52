from __future__ import annotations

from knowtune.families import Judged
from knowtune.metrics.reliability import Reliability

from .tables import ITEMS, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(Reliability()) == 3 / 4  # three of four


def test_none_without_items() -> None:
    assert without(Reliability(), "reliability") is None
    assert Reliability().compute(Judged(ITEMS[:0], TEXTS[:0])) is None
