from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from knowtune.common.errors import UserError
from knowtune.selectors.random import Random
from tests.unit.selectors.oracle import SHAPES, flat, logistic


def test_without_options_all_are_chosen() -> None:
    choice = Random().choose(logistic(), seed=0)
    assert choice.chosen.all()
    assert choice.mask is None
    assert choice.layers is None
    assert (choice.trace[0]["num_rows"], choice.trace[0]["num_parameters"]) == (24, None)
    assert Random().masks is False


@pytest.mark.parametrize("samples", [1, 7, 24])
def test_the_highest_scores_are_chosen(samples: int) -> None:
    choice = Random(samples=samples).choose(logistic(), seed=0)
    assert int(choice.chosen.sum()) == samples
    assert choice.scores[choice.chosen].min() >= choice.scores[~choice.chosen].max() or samples == 24
    assert choice.trace[0]["num_rows"] == samples


def test_scores_are_numpys_uniform_numbers() -> None:
    pool = logistic()
    choice = Random(samples=2).choose(pool, seed=3)
    expected = np.random.default_rng(3).random(24)
    assert choice.scores.tolist() == expected.tolist()
    assert choice.scores.index.equals(pool.rows.index)
    assert set(choice.chosen.index[choice.chosen]) == set(50 + np.argsort(expected)[-2:])


def test_more_samples_than_rows() -> None:
    with pytest.raises(UserError) as caught:
        Random(samples=25).choose(logistic(), seed=0)
    assert str(caught.value) == "samples: got 25, but only 24 rows are left; allowed: up to that"


@pytest.mark.parametrize("budget", [0.001, 0.005, 0.1, 0.5, 1.0])
def test_the_budget_is_exact(budget: float) -> None:
    mask = Random(budget=budget).choose(logistic(), seed=1).mask
    assert mask is not None
    assert list(mask) == list(SHAPES)
    assert sum(len(indices) for indices in mask.values()) == math.ceil(budget * 122)
    for name, indices in mask.items():
        assert indices.dtype == torch.int64
        assert indices.tolist() == sorted(set(indices.tolist()))
        assert all(0 <= i < math.prod(SHAPES[name]) for i in indices.tolist())


def test_a_budget_that_floats_cannot_write_is_still_exact() -> None:
    mask = Random(budget=0.07).choose(logistic(shapes={"w": (10, 10)}), seed=0).mask
    assert mask is not None
    assert len(mask["w"]) == 7


def test_parameters_are_drawn_uniformly() -> None:
    counts = torch.zeros(122)
    pool = logistic(1)
    for seed in range(300):
        mask = Random(budget=0.25).choose(pool, seed=seed).mask
        assert mask is not None
        counts[flat(pool, mask)] += 1
    share = 31 / 122  # of 300 draws; five standard errors of one parameter
    assert (counts / 300 - share).abs().max() < 5 * math.sqrt(share * (1 - share) / 300)


def test_a_model_of_eight_billion_parameters_has_a_mask_too() -> None:
    pool = replace(logistic(2), shapes={str(i): (2**14, 2**15) for i in range(16)})
    mask = Random(budget=1e-7).choose(pool, seed=0).mask
    assert mask is not None
    assert sum(len(indices) for indices in mask.values()) == math.ceil(1e-7 * 16 * 2**29)


def test_shares_of_every_parameter() -> None:
    choice = Random(num_parameters=13, granularity="parameter").choose(logistic(), seed=0)
    assert choice.layers is not None
    assert choice.layers.to_dict("list") == {
        "parameter": ["a", "none", "b", "c"], "size": [15, 0, 7, 100], "kept": [1, 0, 1, 11]
    }  # fmt: skip


def test_in_proportion_to_the_groups() -> None:
    pool = logistic()
    pool.rows = pool.rows.assign(target=["x"] * 16 + ["y"] * 8)
    for seed in range(5):
        chosen = Random(samples=6, stratify="target").choose(pool, seed=seed).chosen
        assert pool.rows["target"][chosen].value_counts().to_dict() == {"x": 4, "y": 2}


def test_a_budget_makes_a_mask() -> None:
    assert Random(budget=0.5).masks is True


def test_same_seed_same_choice_other_seed_other_choice() -> None:
    member = Random(samples=5, budget=0.1)
    one, two, other = (member.choose(logistic(), seed=s) for s in (0, 0, 1))
    assert one.scores.equals(two.scores)
    assert one.chosen.equals(two.chosen)
    assert one.mask is not None and two.mask is not None
    assert all(torch.equal(one.mask[name], two.mask[name]) for name in SHAPES)
    assert not one.scores.equals(other.scores)


@pytest.mark.parametrize("options", [{"samples": 0}, {"budget": 0.0}, {"budget": 1.5}, {"samples": 1.0}])
def test_bounds(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        Random(**options)  # type: ignore[arg-type]
