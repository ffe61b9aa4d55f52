from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from knowtune.filters.base import Seen
from knowtune.filters.sketch_cosines import cosines_with_others, mean_group_cosines

GENERATOR = np.random.default_rng(0)
SKETCHES = GENERATOR.normal(0.2, 1.0, (20_000, 5)).astype("float32")  # more than a slice


def seen(sketches: np.ndarray, places: np.ndarray | None = None) -> Seen:
    number = len(sketches) if places is None else len(places)
    return Seen(pd.DataFrame({"id": map(str, range(number))}), sketches, places)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_each_against_the_mean_of_all_others() -> None:
    exact = SKETCHES.astype(float)
    found = cosines_with_others(seen(SKETCHES))
    for i in (0, 1, 8191, 8192, 19_999):
        assert found[i] == pytest.approx(cosine(exact[i], np.delete(exact, i, 0).mean(0)), abs=1e-6)


def test_neither_the_order_nor_the_scale_matters() -> None:
    order = GENERATOR.permutation(len(SKETCHES))
    np.testing.assert_array_equal(
        cosines_with_others(seen(SKETCHES, order)), cosines_with_others(seen(SKETCHES))[order]
    )
    np.testing.assert_array_equal(cosines_with_others(seen(SKETCHES * 4)), cosines_with_others(seen(SKETCHES)))


def test_a_row_alone_and_a_row_without_a_gradient_oppose_nothing() -> None:
    assert cosines_with_others(seen(np.ones((1, 3)))).tolist() == [0.0]
    assert cosines_with_others(seen(np.array([[0.0, 0], [1, 0], [2, 0]]))).tolist() == [0.0, 1.0, 1.0]
    assert cosines_with_others(seen(np.ones((0, 3)))).tolist() == []


def test_groups_are_compared_pair_by_pair() -> None:
    sketches = SKETCHES[:30]
    groups = pd.Series([*"aaabbcccccx"] + ["c"] * 18 + ["lone"])
    names = ["a", "b", "c", "lone"]
    found = mean_group_cosines(seen(sketches), groups, names)
    for line, one in zip(found, names, strict=True):
        for value, other in zip(line, names, strict=True):
            pairs = [
                cosine(sketches[i], sketches[j])
                for i in np.flatnonzero(groups == one)
                for j in np.flatnonzero(groups == other)
                if i != j
            ]
            assert value == (pytest.approx(np.mean(pairs), abs=1e-5) if pairs else None)
