from __future__ import annotations

import itertools

import numpy as np
import pytest

from knowtune.filters.mean_variance import MeanVariance, best_prefix
from tests.unit.helpers import row, seen_of, table


def cost(distances: np.ndarray, spread: float, form: str) -> float:
    return float(distances.mean() - spread * (distances.std() if form == "deviation" else distances.var()))


def choice(ranked: np.ndarray, count: int, num_near: int) -> np.ndarray:
    return np.concatenate([ranked[:num_near], ranked[len(ranked) - (count - num_near) :]])


@pytest.mark.parametrize("form", ["deviation", "variance"])
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0, 4.0])
def test_no_subset_is_better(spread: float, form: str) -> None:
    generator = np.random.default_rng(7)
    for size in (1, 2, 3, 5, 8, 12):
        for tied in (False, True):
            ranked = np.sort(generator.integers(0, 3, size) / 2 if tied else generator.uniform(0, 2, size))
            for count in range(1, size + 1):
                found = choice(ranked, count, best_prefix(ranked, count, spread, form))
                assert len(found) == count
                best = min(
                    cost(ranked[list(some)], spread, form) for some in itertools.combinations(range(size), count)
                )
                assert cost(found, spread, form) <= best + 1e-12


def test_distances_that_hardly_differ_are_told_apart() -> None:
    ranked = 1.0 + np.array([0.0, 1.0, 2.0, 3.0, 9.0]) * 2.0**-48  # squares of sums would cancel
    exact = np.array([0.0, 1.0, 2.0, 3.0, 9.0])
    for count in range(1, 6):
        assert best_prefix(ranked, count, 1.0, "deviation") == best_prefix(exact, count, 1.0, "deviation")


def test_of_equally_good_choices_the_nearest() -> None:
    assert best_prefix(np.full(6, 0.7), 3, 1.0, "deviation") == 3
    assert best_prefix(np.array([0.2, 0.2, 0.9]), 1, 5.0, "variance") == 1


def test_reasons_say_between_what_a_row_lies() -> None:
    rows = table(*(row(f"id{i}", f"p{i}", "t") for i in range(4))).set_axis([9, 7, 5, 3])
    seen = seen_of(rows, [2.0, 0.5, 0.0, 0.6])
    middle = ["", "middle: distance 0.5000, after 0.0000 and before 2.0000", ""]
    assert MeanVariance(keep=0.5, spread=2.0).reasons(rows, seen).tolist() == [
        *middle, "middle: distance 0.6000, after 0.0000 and before 2.0000",
    ]  # fmt: skip
    far = MeanVariance(keep=0.5, spread=0.0).reasons(rows, seen)
    assert far.tolist() == ["middle: distance 2.0000, after 0.5000", "", "", "middle: distance 0.6000, after 0.5000"]


def test_of_equal_distances_ids_decide() -> None:
    rows = table(row("b", "p", "t"), row("a", "q", "t"), row("c", "r", "t"))
    seen = seen_of(rows, [0.5, 0.5, 0.5])
    assert (MeanVariance(keep=0.4).reasons(rows, seen) == "").tolist() == [True, True, False]
