from __future__ import annotations

from dataclasses import replace

import pytest

from knowtune.evaluation.metrics.drift import Drift
from tests.unit.evaluation.metrics.tables import CLASSIFICATION, KNOWLEDGE, STATES, emptied


def test_by_hand() -> None:
    assert Drift().compute(CLASSIFICATION) == pytest.approx((1 - 3**0.5 / 2) / 3)  # one of three turned by 30 degrees


def test_against_itself_it_is_zero() -> None:
    assert Drift().compute(replace(CLASSIFICATION, base_states=STATES)) == pytest.approx(0, abs=1e-12)


def test_how_long_a_state_is_does_not_matter() -> None:
    longer = replace(CLASSIFICATION, states=7 * STATES)
    assert Drift().compute(longer) == pytest.approx(Drift().compute(CLASSIFICATION))


def test_none_without_states() -> None:
    assert Drift().compute(KNOWLEDGE) is None
    assert Drift().compute(emptied(CLASSIFICATION)) is None
