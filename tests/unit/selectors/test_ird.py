from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from knowtune.common.errors import UserError
from knowtune.selectors.base import Choice
from knowtune.selectors.fish import Fish
from knowtune.selectors.ird import Ird, schedule
from tests.unit.selectors.oracle import Table, flat, logistic, taken, tied, top


def entries(pool: Table, choice: Choice) -> list[int]:
    assert choice.mask is not None
    return flat(pool, choice.mask)


def chosen(choice: Choice) -> list[int]:
    return np.flatnonzero(choice.chosen).tolist()


def by_hand(
    pool: Table, rows_left: Sequence[int], entries_left: Sequence[int], order: str, scope: str
) -> list[tuple[list[int], list[int], np.ndarray[Any, Any]]]:
    """Give every round's rows, parameters and scores by sorting everything."""
    squares = pool.gradients**2
    rows, kept, scores, found = list(range(len(squares))), list(range(squares.shape[1])), np.zeros(len(squares)), []
    for num_rows, num_entries in zip(rows_left, entries_left, strict=True):
        if order == "parameters_first":
            kept = top(squares[rows].mean(axis=0), num_entries, kept)
        over = kept if scope == "selected" else list(range(squares.shape[1]))
        scores[rows] = squares[np.ix_(rows, over)].sum(axis=1)
        rows = top(scores, num_rows, rows)
        if order == "samples_first":
            kept = top(squares[rows].mean(axis=0), num_entries, kept)
        found.append((rows, kept, scores.copy()))
    return found


@pytest.mark.parametrize("order", ["parameters_first", "samples_first"])
@pytest.mark.parametrize("scope", ["selected", "all"])
@pytest.mark.parametrize("rounds", [1, 2, 3, 5])
@pytest.mark.parametrize("make", [logistic, tied])
def test_it_is_what_sorting_everything_gives(make: Any, rounds: int, scope: Any, order: Any) -> None:
    pool = make()
    options = {"samples": 3, "num_parameters": 7, "order": order, "sample_scope": scope, "rounds": rounds}
    choice = Ird(**options).choose(pool, seed=0)
    rows, kept, scores = by_hand(pool, schedule(24, 3, rounds), schedule(122, 7, rounds), order, scope)[-1]
    assert chosen(choice) == rows
    assert entries(pool, choice) == kept
    assert choice.scores.tolist() == pytest.approx(scores.tolist(), rel=1e-12)


@pytest.mark.parametrize("rounds", [1, 4])
@pytest.mark.parametrize("granularity", ["global", "parameter"])
@pytest.mark.parametrize("make", [logistic, tied])
def test_without_shrinking_rows_it_is_the_fish_mask(make: Any, granularity: Any, rounds: int) -> None:
    pool = make()
    if granularity == "parameter" and rounds > 1:
        pool.shapes = {"w": (122,)}  # shares of several parameters are rounded in every round
    options = {"num_parameters": 13, "samples": None, "granularity": granularity}
    one, other = Ird(**options, rounds=rounds).choose(pool, seed=0), Fish(**options).choose(pool, seed=0)
    assert entries(pool, one) == entries(pool, other)
    assert one.scores.equals(other.scores)
    assert one.chosen.all() and other.chosen.all()
    assert one.trace[-1]["mass_kept"] == other.trace[0]["mass_kept"]


def test_without_shrinking_at_all_everything_is_chosen() -> None:
    pool = logistic()
    choice = Ird(budget=1.0, samples=None, rounds=3).choose(pool, seed=0)
    assert entries(pool, choice) == list(range(122))
    assert choice.chosen.all()
    for line in choice.trace:
        assert (line["num_rows"], line["num_parameters"]) == (24, 122)
        assert line["mass_kept"] == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("granularity", ["global", "parameter"])
@pytest.mark.parametrize("order", ["parameters_first", "samples_first"])
@pytest.mark.parametrize("stratify", [None, "relation"])
def test_every_pair_lies_in_the_one_before(granularity: Any, order: Any, stratify: Any) -> None:
    pool = logistic()
    made = Ird(
        num_parameters=5, samples=2, rounds=6, granularity=granularity, order=order, stratify=stratify, search=True
    )
    made.choose(pool, seed=0)
    pairs = [(set(rows), set(flat(pool, mask))) for name, (rows, mask, *_) in pool.calls if name == "dev_score"]
    assert len(pairs) == 6
    for (rows, kept), (fewer_rows, fewer_kept) in pairwise(pairs):
        assert fewer_rows < rows
        assert fewer_kept < kept
    assert (len(pairs[-1][0]), len(pairs[-1][1])) == (2, 5)


@pytest.mark.parametrize("first", [1, 2, 24, 122, 10**6, 8 * 10**9])
@pytest.mark.parametrize("rounds", [1, 2, 3, 7, 30])
def test_sizes_fall_to_the_last_exactly(first: int, rounds: int) -> None:
    for last in {1, max(first // 200, 1), max(first // 2, 1), max(first - 1, 1), first}:
        sizes = schedule(first, last, rounds)
        assert len(sizes) == rounds
        assert sizes[-1] == last
        assert all(a >= b for a, b in zip([first, *sizes], sizes, strict=False))
        assert all(first * (last / first) ** (t / rounds) <= s + 1e-3 for t, s in enumerate(sizes, start=1))
        assert all(s < first * (last / first) ** (t / rounds) + 1 for t, s in enumerate(sizes, start=1))


def test_sizes_that_halve() -> None:
    assert schedule(1024, 128, 3) == [512, 256, 128]
    assert schedule(1000, 10, 2) == [100, 10]
    assert schedule(0, 0, 3) == [0, 0, 0]


def test_the_trace_says_what_moved() -> None:
    """Three parameters and four rows, by hand: with a row of the second gone, the first matters more."""
    pool = tied(4)
    pool.shapes = {"w": (3,)}
    pool.gradients = np.array([[5.0, 0, 0], [0, 4, 0], [0, 4, 0], [0, 0, 1]])
    choice = Ird(num_parameters=1, samples=1, rounds=2).choose(pool, seed=0)
    # F = (25, 32, 1) / 4: keep 2 of 3 (ceil(3 / 3^0.5) = 2), traces 25, 16, 16, 0: keep rows 0 and 1.
    # F = (25, 16, 0) / 2: keep parameter 0, where the round before would have kept 1; trace 25, 0: row 0, as before.
    assert entries(pool, choice) == [0]
    assert chosen(choice) == [0]
    assert choice.scores.tolist() == [25.0, 0.0, 16.0, 0.0]
    assert choice.trace == [
        {"round": 1, "num_rows": 2, "num_parameters": 2, "mass_kept": pytest.approx(57 / 58), "dev_score": None,
         "parameter_overlap": None, "row_overlap": None},
        {"round": 2, "num_rows": 1, "num_parameters": 1, "mass_kept": pytest.approx(25 / 41), "dev_score": None,
         "parameter_overlap": 0.0, "row_overlap": 1.0},
    ]  # fmt: skip


@pytest.mark.parametrize("scale", [0.125, 4.0])
def test_a_loss_that_is_scaled_leaves_the_choice(scale: float) -> None:
    pool, scaled = logistic(), logistic()
    scaled.gradients = scale * pool.gradients
    one, other = (Ird(num_parameters=9, samples=4).choose(p, seed=0) for p in (pool, scaled))
    assert entries(pool, one) == entries(scaled, other)
    assert chosen(one) == chosen(other)


def test_every_row_twice_leaves_the_mask() -> None:
    pool = logistic()
    pool.gradients = np.round(pool.gradients * 64) / 64  # sums are exact
    twice = taken(pool, [i for i in range(24) for _ in range(2)])
    one = Ird(num_parameters=9, samples=6, rounds=2).choose(pool, seed=0)
    other = Ird(num_parameters=9, samples=12, rounds=2).choose(twice, seed=0)
    assert [line["num_rows"] for line in one.trace] == [12, 6]
    assert entries(pool, one) == entries(twice, other)
    assert chosen(other) == [i for row in chosen(one) for i in (2 * row, 2 * row + 1)]


@pytest.mark.parametrize("stratify", [None, "relation"])
def test_the_order_of_the_rows_does_not_matter(stratify: Any) -> None:
    pool = logistic()
    turned = taken(pool, np.random.default_rng(5).permutation(24).tolist())
    one, other = (Ird(num_parameters=9, samples=5, stratify=stratify).choose(p, seed=0) for p in (pool, turned))
    assert entries(pool, one) == entries(turned, other)
    assert set(pool.rows["id"][one.chosen]) == set(turned.rows["id"][other.chosen])


def test_rows_are_kept_in_proportion_to_their_groups() -> None:
    pool = logistic()
    pool.rows = pool.rows.assign(target=["x"] * 16 + ["y"] * 8)
    pool.gradients[16:] *= 100  # without groups only these would be kept
    choice = Ird(num_parameters=9, samples=6, rounds=2, stratify="target").choose(pool, seed=0)
    assert pool.rows["target"][choice.chosen].value_counts().to_dict() == {"x": 4, "y": 2}
    without = Ird(num_parameters=9, samples=6, rounds=2).choose(pool, seed=0)
    assert set(pool.rows["target"][without.chosen]) == {"y"}


def test_the_search_takes_the_best_pair_and_of_equals_the_last() -> None:
    scores = iter([0.5, 0.75, 0.75, 0.25])
    pool = logistic(judge=lambda rows, mask: next(scores))
    made = Ird(num_parameters=9, samples=4, rounds=4, search=True)
    choice = made.choose(pool, seed=3)
    rows, kept, traces = by_hand(pool, schedule(24, 4, 4), schedule(122, 9, 4), "parameters_first", "selected")[2]
    assert chosen(choice) == rows
    assert entries(pool, choice) == kept
    assert choice.scores.tolist() == pytest.approx(traces.tolist(), rel=1e-12)
    assert choice.layers is not None and choice.layers["kept"].sum() == len(kept)
    assert [line["dev_score"] for line in choice.trace] == [0.5, 0.75, 0.75, 0.25]
    assert [seed for name, (*_, seed) in pool.calls if name == "dev_score"] == [3] * 4


def test_without_a_search_nothing_is_trained() -> None:
    pool = logistic()
    Ird(num_parameters=9, samples=4, rounds=4).choose(pool, seed=0)
    assert [name for name, _ in pool.calls] == ["fisher", "row_scores"] * 4


@pytest.mark.parametrize("score", [float("nan"), float("-inf")])
def test_a_training_that_fails(score: float) -> None:
    pool = logistic(judge=lambda rows, mask: score)
    with pytest.raises(UserError, match=r"^search: the pair of round 1 has no finite score"):
        Ird(num_parameters=9, samples=4, search=True).choose(pool, seed=0)


def test_the_table_and_the_last_round_agree() -> None:
    choice = Ird(num_parameters=9, samples=4).choose(logistic(), seed=0)
    assert choice.layers is not None
    assert choice.layers["kept_mass"].sum() == choice.trace[-1]["mass_kept"]
    assert (choice.layers["kept_mass"] <= choice.layers["mass"]).all()


def test_a_parameter_may_keep_nothing() -> None:
    pool = logistic()
    pool.gradients[:, :22] = 0
    mask = Ird(num_parameters=5, samples=4).choose(pool, seed=0).mask
    assert mask is not None
    assert {name: len(indices) for name, indices in mask.items()} == {"a": 0, "none": 0, "b": 0, "c": 5}
    assert all(indices.dtype == torch.int64 for indices in mask.values())


@pytest.mark.parametrize(
    ("num", "message"),
    [
        (24, "samples: got 128, but only 24 rows are left; allowed: up to that"),
        (0, "samples: got 128, but only 0 rows are left; allowed: up to that"),
    ],
)
def test_fewer_rows_than_samples(num: int, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Ird(budget=0.1).choose(logistic(num), seed=0)
    assert str(caught.value) == message


def test_without_rows() -> None:
    with pytest.raises(UserError, match=r"^no rows are left to take the Fisher information of"):
        Ird(budget=0.1, samples=None).choose(logistic(0), seed=0)
