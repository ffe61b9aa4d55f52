from __future__ import annotations

from knowtune.families import Judged
from knowtune.metrics.forgotten import Forgotten

from .tables import ITEMS, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(Forgotten()) == 1 / 8  # the base has five of eight right, the model four


def test_none_without_items() -> None:
    assert without(Forgotten(), "locality") is None
    assert Forgotten().compute(Judged(ITEMS[:0], TEXTS[:0])) is None


def test_negative_where_it_gained() -> None:
    assert Forgotten().compute(Judged(ITEMS.assign(correct=True), TEXTS)) == -3 / 8
