from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.gained import Gained
from tests.unit.evaluation.metrics.tables import EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(Gained()) == 1 / 3  # of the three that the base has wrong, one


def test_none_without_items() -> None:
    assert without(Gained(), "locality") is None
    assert Gained().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None


def test_none_where_the_base_knows_all() -> None:
    assert Gained().compute(Judged(EXAMPLES.assign(base_correct=True), TEXTS)) is None
