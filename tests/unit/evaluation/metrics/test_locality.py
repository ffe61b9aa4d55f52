from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.locality import Locality
from tests.unit.evaluation.metrics.tables import EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(Locality()) == 3 / 5  # of the five the base has right, three stay


def test_none_without_items() -> None:
    assert without(Locality(), "locality") is None
    assert Locality().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None


def test_none_where_the_base_knows_nothing() -> None:
    assert Locality().compute(Judged(EXAMPLES.assign(base_correct=False), TEXTS)) is None
