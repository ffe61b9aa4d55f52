from __future__ import annotations

from knowtune.evaluation.metrics.accuracy import Accuracy
from tests.unit.evaluation.metrics.tables import CLASSIFICATION, emptied


def test_by_hand() -> None:
    assert Accuracy().compute(CLASSIFICATION) == 8 / 10


def test_none_without_items() -> None:
    assert Accuracy().compute(emptied(CLASSIFICATION)) is None
