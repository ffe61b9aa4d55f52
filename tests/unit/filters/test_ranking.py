from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from knowtune.filters.ranking import lowest_first, num_kept


@pytest.mark.parametrize(
    ("keep", "total", "expected"),
    [(1.0, 7, 7), (0.5, 7, 4), (0.07, 100, 7), (1e-12, 5, 1), (0.3, 0, 0), (0.9, 1, 1)],
)
def test_shares_are_rounded_up(keep: float, total: int, expected: int) -> None:
    assert num_kept(keep, total) == expected


def test_ties_go_by_id() -> None:
    ids = pd.Series(["d", "b", "c", "a", "e"], index=[4, 4, 4, 4, 4])
    assert lowest_first(np.array([1.0, 0.5, 1.0, 1.0, 0.1]), ids).tolist() == [4, 1, 3, 2, 0]


def test_as_sorting_by_value_and_id_does() -> None:
    generator = np.random.default_rng(1)
    values = generator.integers(0, 9, 200) / 4
    ids = pd.Series(generator.permutation(200).astype(str))
    expected = sorted(range(200), key=lambda i: (values[i], ids[i]))
    assert lowest_first(values, ids).tolist() == expected


@pytest.mark.parametrize("size", [0, 1])
def test_few_rows(size: int) -> None:
    assert lowest_first(np.zeros(size), pd.Series(["a"] * size, dtype="str")).tolist() == list(range(size))
