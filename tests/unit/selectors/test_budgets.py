from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from knowtune.common.errors import UserError
from knowtune.selectors.fish import Fish
from knowtune.selectors.ird import Ird
from knowtune.selectors.magnitude import Magnitude
from knowtune.selectors.random import Random
from tests.unit.selectors.oracle import logistic, tied, top

STRICT = [Magnitude, Fish, Ird]


@pytest.mark.parametrize("kind", [Random, *STRICT])
@pytest.mark.parametrize("options", [{"budget": 0.5}, {"num_parameters": 3}])
def test_one_budget_makes_a_mask(kind: Any, options: dict[str, Any]) -> None:
    assert kind(**options).masks is True


@pytest.mark.parametrize("kind", STRICT)
@pytest.mark.parametrize("options", [{}, {"budget": 0.5, "num_parameters": 3}])
def test_exactly_one_budget(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Value error, exactly one of budget and num_parameters"):
        kind(**options)


def test_at_most_one_budget_for_the_lot() -> None:
    assert Random().masks is False
    with pytest.raises(ValidationError, match="Value error, at most one of budget and num_parameters"):
        Random(budget=0.5, num_parameters=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "*.weight"}, "pattern and granularity only with budget, num_parameters or protect"),
        ({"granularity": "parameter"}, "pattern and granularity only with budget, num_parameters or protect"),
        ({"stratify": "relation"}, "stratify only with samples"),
    ],
)
def test_settings_without_effect_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=f"Value error, {message}"):
        Random(**options)


@pytest.mark.parametrize(
    "options",
    [{"budget": 0.0}, {"budget": 1.5}, {"num_parameters": 0}, {"num_parameters": 2.0}, {"samples": 0},
     {"samples": 1.0}, {"stratify": "subject"}, {"granularity": "layer"}, {"pattern": 3}, {"draws": 0},
     {"max_loss": 0.0}, {"batch_size": 0}, {"labels": "none"}, {"rounds": 0}, {"order": "joint"},
     {"sample_scope": "none"}, {"search": 1}],
)  # fmt: skip
def test_bounds(options: dict[str, Any]) -> None:
    needed = {} if {"budget", "num_parameters"} & set(options) else {"budget": 0.5}
    with pytest.raises(ValidationError, match=next(iter(options))):
        Ird(**needed, **options)


@pytest.mark.parametrize(("reserved", "expected"), [(0, 13), (5, 8), (12, 1)])
def test_a_head_counts_in_the_budget(reserved: int, expected: int) -> None:
    pool = logistic(num_reserved=reserved)
    assert Fish(num_parameters=13).num_chosen(pool) == expected
    choice = Fish(num_parameters=13).choose(pool, seed=0)
    assert choice.mask is not None
    assert sum(len(indices) for indices in choice.mask.values()) == expected
    assert choice.trace[0]["num_parameters"] == expected


@pytest.mark.parametrize(
    ("reserved", "budget", "expected"), [(0, 0.1, 13), (78, 0.5, 22), (0, 1.0, 122), (8, 1.0, 122)]
)
def test_a_share_is_one_of_parameters_in_scope_and_head(reserved: int, budget: float, expected: int) -> None:
    assert Magnitude(budget=budget).num_chosen(logistic(num_reserved=reserved)) == expected


@pytest.mark.parametrize(
    ("options", "reserved", "message"),
    [
        ({"num_parameters": 13}, 13, "num_parameters: got 13, but the classifier's head, which is always trained, "
         "has 13; allowed: more than that"),
        ({"budget": 0.05}, 20, "budget: got 0.05, 8 of 142 parameters, but the classifier's head, which is always "
         "trained, has 20; allowed: more than that"),
        ({"num_parameters": 1123}, 1000, "num_parameters: got 1,123, larger than the model in scope, which has 1,122; "
         "allowed: up to that"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [Random, *STRICT])
def test_budgets_that_do_not_fit(kind: Any, options: dict[str, Any], reserved: int, message: str) -> None:
    with pytest.raises(UserError) as caught:
        kind(**options, samples=5).choose(logistic(num_reserved=reserved), seed=0)
    assert str(caught.value) == message


@pytest.mark.parametrize("kind", [Random, *STRICT])
def test_a_pattern_that_fits_nothing(kind: Any) -> None:
    with pytest.raises(UserError) as caught:
        kind(budget=0.5, samples=5, pattern="zzz").choose(replace(logistic(), shapes={"none": (0, 4)}), seed=0)
    assert str(caught.value) == "pattern: got 'zzz', which leaves no parameter to choose; allowed: a wider one"


@pytest.mark.parametrize("kind", [Random, *STRICT])
def test_more_samples_than_rows(kind: Any) -> None:
    with pytest.raises(UserError) as caught:
        kind(budget=0.5, samples=25).choose(logistic(), seed=0)
    assert str(caught.value) == "samples: got 25, but only 24 rows are left; allowed: up to that"


@pytest.mark.parametrize("num", [0, 1, 5, 12])
def test_the_best_rows_are_those_that_sorting_gives(num: int) -> None:
    pool, rows = tied(), np.arange(0, 24, 2)
    scores = pool.gradients[rows, 0]  # 0, 1 or 2: many are equal
    expected = [int(rows[i]) for i in top(scores, num)]
    assert Random(samples=5).best_rows(pool, rows, scores, num).tolist() == expected


@pytest.mark.parametrize("num", [0, 1, 5, 12])
def test_the_best_rows_of_every_group(num: int) -> None:
    pool, rows = tied(), np.arange(12)
    pool.rows = pool.rows.assign(target=list("zzzzzzxxxyyy") + ["w"] * 12)
    scores = pool.gradients[rows, 0]
    shares = {0: (0, 0, 0), 1: (0, 0, 1), 5: (1, 1, 3), 12: (3, 3, 6)}[num]
    among = [range(6, 9), range(9, 12), range(6)]  # x, y and z: 5 rows are 1.25, 1.25 and 2.5 of them
    expected = sorted(i for share, part in zip(shares, among, strict=True) for i in top(scores, share, part))
    made = Random(samples=5, stratify="target")
    assert made.best_rows(pool, rows, scores, num).tolist() == expected
