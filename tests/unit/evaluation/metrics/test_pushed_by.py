from __future__ import annotations

import math

import pytest

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.pushed_by import PushedBy
from tests.unit.evaluation.metrics.tables import ANSWERED, CLASSIFICATION, EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(PushedBy()) == pytest.approx((0.1 + 0.3 + 0.5) / 3)
    assert PushedBy().compute(CLASSIFICATION) == pytest.approx(0.4)


def test_what_was_known_does_not_count() -> None:
    assert without(PushedBy(), "locality") == compute(PushedBy())


def test_none_pushed_is_zero_so_that_seeds_can_be_averaged() -> None:
    assert PushedBy().compute(Judged(ANSWERED.assign(distance=0.0), TEXTS)) == 0.0


@pytest.mark.parametrize("examples", [EXAMPLES, ANSWERED.assign(base_distance=math.nan), ANSWERED[9:]])
def test_nothing_to_measure(examples: object) -> None:
    assert PushedBy().compute(Judged(examples, TEXTS)) is None  # type: ignore[arg-type]
