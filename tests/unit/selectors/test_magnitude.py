from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from knowtune.selectors.magnitude import Magnitude
from knowtune.selectors.random import Random
from tests.unit.selectors.oracle import flat, logistic, tied, top


@pytest.mark.parametrize("num", [1, 13, 121, 122])
@pytest.mark.parametrize("make", [logistic, tied])
def test_the_largest_weights(num: int, make: Any) -> None:
    pool = make()
    pool.theta = -pool.gradients[3]  # signs do not count
    choice = Magnitude(num_parameters=num).choose(pool, seed=0)
    assert choice.mask is not None and choice.layers is not None
    expected = top(np.abs(pool.theta), num)
    assert flat(pool, choice.mask) == expected
    share = np.abs(pool.theta[expected]).sum() / np.abs(pool.theta).sum()
    assert choice.trace[0]["mass_kept"] == pytest.approx(share, rel=1e-12)
    assert choice.layers["mass"].sum() == pytest.approx(1.0, rel=1e-12)


def test_rows_are_those_of_the_lot() -> None:
    pool = logistic()
    one = Magnitude(num_parameters=3, samples=5).choose(pool, seed=2)
    other = Random(samples=5).choose(pool, seed=2)
    assert one.chosen.equals(other.chosen)
    assert one.scores.equals(other.scores)
    assert pool.calls == []


def test_the_weights_are_left_alone() -> None:
    pool = logistic()
    before = np.array(pool.theta)
    Magnitude(num_parameters=3).choose(pool, seed=2)
    assert np.array_equal(before, np.array(pool.theta))
