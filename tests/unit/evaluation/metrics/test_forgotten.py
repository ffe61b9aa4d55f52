from __future__ import annotations

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.forgotten import Forgotten
from tests.unit.evaluation.metrics.tables import EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(Forgotten()) == 0.4  # of the five that the base has right, three stay; a gain makes up for none


def test_none_without_items() -> None:
    assert without(Forgotten(), "locality") is None
    assert Forgotten().compute(Judged(EXAMPLES[:0], TEXTS[:0])) is None


def test_what_the_base_never_knew_is_in_neither_number() -> None:
    assert Forgotten().compute(Judged(EXAMPLES.assign(correct=True), TEXTS)) == 0.0
    ignorant = EXAMPLES.assign(base_correct=False, correct=False)
    assert Forgotten().compute(Judged(ignorant, TEXTS)) is None
    one = ignorant.assign(base_correct=[i == 9 for i in range(17)])  # the base knows one fact, and it is lost
    assert Forgotten().compute(Judged(one, TEXTS)) == 1.0
