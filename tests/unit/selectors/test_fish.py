from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from knowtune.common.errors import UserError
from knowtune.gradients.options import Scoring
from knowtune.selectors.base import Choice
from knowtune.selectors.fish import Fish
from knowtune.selectors.random import Random
from tests.unit.selectors.oracle import Table, flat, logistic, taken, tied, top


def entries(pool: Table, choice: Choice) -> list[int]:
    assert choice.mask is not None
    return flat(pool, choice.mask)


def chosen(choice: Choice) -> list[int]:
    return np.flatnonzero(choice.chosen).tolist()


@pytest.mark.parametrize("num", [1, 13, 61, 122])
@pytest.mark.parametrize("samples", [None, 1, 7])
@pytest.mark.parametrize("make", [logistic, tied])
def test_it_is_the_top_of_everything_sorted(make: Any, samples: int | None, num: int) -> None:
    pool = make()
    choice = Fish(num_parameters=num, samples=samples).choose(pool, seed=1)
    rows = chosen(Random(samples=samples).choose(pool, seed=1))
    squares = pool.gradients[rows] ** 2
    expected = top(squares.sum(axis=0), num)  # the authors' sum: the mean has the same order
    assert chosen(choice) == rows
    assert entries(pool, choice) == expected
    scores = np.zeros(24)
    scores[rows] = squares[:, expected].sum(axis=1)
    assert choice.scores.tolist() == pytest.approx(scores.tolist(), rel=1e-12)
    mass = squares[:, expected].sum() / squares.sum()
    assert choice.trace == [
        {"round": 1, "num_rows": len(rows), "num_parameters": num, "mass_kept": pytest.approx(mass, rel=1e-12),
         "parameter_overlap": None, "row_overlap": None, "dev_score": None}
    ]  # fmt: skip


def test_shares_within_every_parameter() -> None:
    pool = logistic()
    choice = Fish(num_parameters=13, granularity="parameter").choose(pool, seed=0)
    fisher = (pool.gradients**2).mean(axis=0)
    parts = [(range(15), 1), (range(15, 22), 1), (range(22, 122), 11)]
    assert entries(pool, choice) == [i for among, share in parts for i in top(fisher, share, among)]


def test_with_one_parameter_both_granularities_agree() -> None:
    pool = logistic(shapes={"w": (122,)})
    one, other = (Fish(num_parameters=13, granularity=g).choose(pool, seed=0) for g in ("global", "parameter"))  # type: ignore[arg-type]
    assert entries(pool, one) == entries(pool, other)


@pytest.mark.parametrize("factor", [0.125, 8.0])
def test_a_loss_that_is_scaled_leaves_the_mask(factor: float) -> None:
    pool, scaled = logistic(), logistic()
    scaled.gradients = factor * pool.gradients
    one, other = (Fish(num_parameters=13).choose(p, seed=0) for p in (pool, scaled))
    assert entries(pool, one) == entries(pool, other)
    assert (other.scores / one.scores).tolist() == [factor**2] * 24


def test_every_row_twice_leaves_the_mask() -> None:
    pool = tied()  # sums are exact
    twice = taken(pool, [i for i in range(24) for _ in range(2)])
    one, other = (Fish(num_parameters=13).choose(p, seed=0) for p in (pool, twice))
    assert entries(pool, one) == entries(twice, other)


def test_the_order_of_the_rows_does_not_matter() -> None:
    pool = tied()
    order = np.random.default_rng(5).permutation(24)
    turned = taken(pool, order.tolist())
    one, other = (Fish(num_parameters=13).choose(p, seed=0) for p in (pool, turned))
    assert entries(pool, one) == entries(turned, other)
    assert other.scores.tolist() == one.scores.iloc[order].tolist()


def test_same_seed_same_choice_other_seed_other_choice() -> None:
    pool = logistic()
    one, two, other = (Fish(num_parameters=13, samples=4).choose(pool, seed=s) for s in (0, 0, 1))
    assert entries(pool, one) == entries(pool, two)
    assert one.scores.equals(two.scores)
    assert chosen(one) != chosen(other)
    assert entries(pool, one) != entries(pool, other)


def test_only_drawn_rows_are_scored_as_the_options_say() -> None:
    pool = logistic()
    choice = Fish(budget=0.1, samples=4, labels="expected", draws=3, max_loss=2.0, batch_size=8).choose(pool, seed=0)
    scoring = Scoring(labels="expected", draws=3, max_loss=2.0, batch_size=8)
    (first, (rows, one)), (second, (again, mask, two)) = pool.calls
    assert (first, second) == ("fisher", "row_scores")
    assert rows == again == chosen(choice)
    assert type(one) is Scoring and one == two == scoring
    assert mask is choice.mask


def test_parameters_that_no_row_moves() -> None:
    pool = logistic()
    pool.gradients[:] = 0
    with pytest.raises(UserError, match=r"^the Fisher information is zero for every parameter in scope: "):
        Fish(budget=0.1).choose(pool, seed=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_information_that_is_not_finite(value: float) -> None:
    pool = logistic()
    pool.gradients[5, 16] = value
    with pytest.raises(UserError, match=r"^the Fisher information of 'b' is not finite: .* compute.dtype float32"):
        Fish(budget=0.1).choose(pool, seed=0)


def test_a_row_whose_information_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = logistic()
    broken = logistic()
    broken.gradients[5] = float("inf")
    monkeypatch.setattr(pool, "row_scores", broken.row_scores)
    with pytest.raises(UserError, match=r"^the Fisher information of 1 rows is not finite, e.g. of 'town:Cleo:0'; "):
        Fish(budget=0.1).choose(pool, seed=0)


def test_without_rows() -> None:
    with pytest.raises(UserError, match=r"^no rows are left to take the Fisher information of"):
        Fish(budget=0.1).choose(logistic(0), seed=0)
