from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.known import Known
from tests.unit.evaluation.metrics.tables import EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(Known()) == 4 / 8  # four of eight


def test_none_without_items() -> None:
    assert without(Known(), "locality") is None
    assert Known().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None
