from __future__ import annotations

import math

import pytest

from knowtune.evaluation.distance_change import PUSHED
from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.pushed_away import PushedAway
from tests.unit.evaluation.metrics.tables import ANSWERED, CLASSIFICATION, EXAMPLES, TEXTS, compute, without


def test_by_hand() -> None:
    assert compute(PushedAway()) == 3 / 9


def test_what_was_known_does_not_count() -> None:
    assert without(PushedAway(), "locality") == 3 / 9


def test_of_a_classifier_by_hand() -> None:
    # Wrong are the fourth and the fifth row; the base was wrong at the fourth, and right at the fifth.
    assert PushedAway().compute(CLASSIFICATION) == 1 / 10


@pytest.mark.parametrize(("grows", "share"), [(PUSHED / 2, 0.0), (PUSHED * 2, 1.0), (-PUSHED * 2, 0.0)])
def test_what_may_be_rounding_is_not_pushed(grows: float, share: float) -> None:
    examples = ANSWERED.assign(base_distance=0.5, distance=0.5 + grows)
    assert PushedAway().compute(Judged(examples, TEXTS)) == share


def test_examples_without_a_distance_do_not_count() -> None:
    after = ANSWERED["distance"].where(ANSWERED["id"] != "3", math.nan)
    assert PushedAway().compute(Judged(ANSWERED.assign(distance=after), TEXTS)) == 2 / 8


@pytest.mark.parametrize("examples", [EXAMPLES, ANSWERED.assign(distance=math.nan), ANSWERED[9:]])
def test_nothing_to_measure(examples: object) -> None:
    assert PushedAway().compute(Judged(examples, TEXTS)) is None  # type: ignore[arg-type]
