from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from knowtune.selectors.trace import Round, choice_of, describe
from tests.unit.selectors.oracle import logistic

SHAPES = {"a": (2, 2), "none": (0,), "b": (3,), "scalar": ()}
MASK = {"a": torch.tensor([0, 3]), "none": torch.tensor([], dtype=torch.int64), "scalar": torch.tensor([0])}


def test_what_a_mask_keeps() -> None:
    table = describe(SHAPES, MASK)
    assert table.to_dict("list") == {
        "parameter": ["a", "none", "b", "scalar"], "size": [4, 0, 3, 1], "kept": [2, 0, 0, 1]
    }  # fmt: skip


def test_where_the_scores_lie() -> None:
    scores = {
        "a": torch.tensor([[1.0, 2], [3, 4]]),
        "none": torch.zeros(0),
        "b": torch.ones(3) * 2,
        "scalar": torch.tensor(4.0),
    }
    table = describe(SHAPES, MASK, scores)
    assert table["mass"].tolist() == [0.5, 0.0, 0.3, 0.2]
    assert table["kept_mass"].tolist() == [0.25, 0.0, 0.0, 0.2]


def test_without_any_score_the_masses_are_zero() -> None:
    table = describe({"a": (2,)}, {"a": torch.tensor([1])}, {"a": torch.zeros(2)})
    assert (table["mass"].tolist(), table["kept_mass"].tolist()) == ([0.0], [0.0])


def test_small_scores_beside_large_ones_are_not_lost() -> None:
    scores = {"a": torch.cat([torch.tensor([1e8]), torch.ones(1000)])}  # float32 would stay at 1e8
    kept = describe({"a": (1001,)}, {"a": torch.arange(1, 1001)}, scores)["kept_mass"].iloc[0]
    assert kept == pytest.approx(1000 / (1e8 + 1000), rel=1e-9)


def test_a_choice_stands_on_the_index_of_the_rows() -> None:
    pool = logistic(3)
    choice = choice_of(pool, np.array([0, 2]), np.array([1, 2, 3]), None, [Round(1, 2, None)])
    pd.testing.assert_series_equal(choice.chosen, pd.Series([True, False, True], index=[50, 51, 52]))
    pd.testing.assert_series_equal(choice.scores, pd.Series([1.0, 2.0, 3.0], index=[50, 51, 52]))


def test_a_round_is_plain() -> None:
    line = Round(2, 3, 4, 0.5, 0.25, 0.125, 1.0).record()
    assert json.loads(json.dumps(line)) == line == {
        "round": 2, "num_rows": 3, "num_parameters": 4, "mass_kept": 0.5, "parameter_overlap": 0.25,
        "row_overlap": 0.125, "dev_score": 1.0,
    }  # fmt: skip
