from __future__ import annotations

from knowtune.metrics.accuracy import Accuracy

from .tables import CLASSIFICATION, emptied


def test_by_hand() -> None:
    assert Accuracy().compute(CLASSIFICATION) == 8 / 10


def test_none_without_items() -> None:
    assert Accuracy().compute(emptied(CLASSIFICATION)) is None
