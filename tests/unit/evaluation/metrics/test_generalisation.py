from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.generalisation import Generalisation
from tests.unit.evaluation.metrics.tables import EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(Generalisation()) == 1 / 5  # one of five


def test_none_without_items() -> None:
    assert without(Generalisation(), "generalisation") is None
    assert Generalisation().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None
