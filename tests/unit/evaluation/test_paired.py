from __future__ import annotations

from itertools import product
from math import comb
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from knowtune.common.errors import UserError
from knowtune.evaluation.paired import as_results, compare, holm


def results(name: str, *seeds: list[int], facts: list[str] | None = None) -> Any:
    ids = [f"e{i}" for i in range(len(seeds[0]))]
    rows = [
        {"id": row_id, "fact": (facts or ids)[i], "seed": seed, "correct": bool(seeds[seed][i])}
        for seed, (i, row_id) in product(range(len(seeds)), enumerate(ids))
    ]
    return as_results(name, pd.DataFrame(rows), binary=True)


A = [1] * 12 + [0] * 8
B = [0] * 9 + [1] * 3 + [1] * 2 + [0] * 6


class TestMcNemar:
    def test_of_one_seed_and_one_example_a_fact_it_is_the_exact_test(self) -> None:
        found = compare("x", results("a", A), results("b", B), binary=True)
        assert (found.lost, found.gained) == (9, 2)
        assert found.p == pytest.approx(binomtest(9, 11).pvalue)
        assert found.p == pytest.approx(2 * sum(comb(11, k) for k in (0, 1, 2)) / 2**11)

    def test_the_other_way_round_what_was_lost_is_gained(self) -> None:
        there, back = (
            compare("x", results("a", *p), results("b", *q), binary=True) for p, q in (([A], [B]), ([B], [A]))
        )
        assert (there.lost, there.gained, there.p) == (back.gained, back.lost, back.p)
        assert there.difference == pytest.approx(-back.difference)
        assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.02)

    def test_equal_models_differ_in_nothing(self) -> None:
        found = compare("x", results("a", A), results("b", A), binary=True)
        assert (found.lost, found.gained, found.p, found.difference, found.low, found.high) == (0, 0, 1.0, 0, 0, 0)
        assert found.flips.empty

    def test_wordings_of_a_fact_are_one_piece_of_evidence(self) -> None:
        facts = [f"f{i // 4}" for i in range(20)]
        found = compare("x", results("a", A, facts=facts), results("b", B, facts=facts), binary=True)
        # f0, f1: four lost each; f2: one lost; f3: two gained; f4: nothing
        assert (found.num_examples, found.num_facts, found.lost, found.gained) == (20, 5, 3, 1)
        assert found.p == pytest.approx(binomtest(3, 4).pvalue)
        single = compare("x", results("a", A), results("b", B), binary=True)
        assert found.high - found.low > single.high - single.low

    def test_seeds_vote_and_a_tie_has_no_verdict(self) -> None:
        a = results("a", [1, 1, 0])
        three = compare("x", a, results("b", [0, 1, 1], [0, 1, 0], [1, 1, 1]), binary=True)
        assert (three.lost, three.gained) == (1, 1)
        tie = compare("x", a, results("b", [0, 1, 0], [1, 1, 0]), binary=True)
        assert (tie.lost, tie.gained) == (0, 0)
        assert tie.difference == pytest.approx(-1 / 6)

    def test_flips_are_listed_with_the_clearest_first(self) -> None:
        found = compare("x", results("a", [1, 1, 0]), results("b", [0, 0, 1], [1, 0, 1], [0, 0, 1]), binary=True)
        assert found.flips.to_dict("records") == [
            {"id": "e1", "fact": "e1", "way": "lost", "a_right": 1, "b_right": 0},
            {"id": "e2", "fact": "e2", "way": "gained", "a_right": 0, "b_right": 3},
            {"id": "e0", "fact": "e0", "way": "lost", "a_right": 1, "b_right": 1},
        ]


class TestInterval:
    def test_it_is_that_of_the_normal_where_examples_are_many_and_independent(self) -> None:
        random = np.random.default_rng(3)
        a, b = (random.random(400) < p for p in (0.6, 0.5))
        found = compare("x", results("a", a.tolist()), results("b", b.tolist()), binary=True)
        each = b.astype(float) - a
        half_width = 1.96 * each.std(ddof=1) / 20
        assert (found.low, found.high) == pytest.approx(
            (each.mean() - half_width, each.mean() + half_width), abs=half_width / 10
        )

    def test_seeds_that_differ_widen_it(self) -> None:
        a = results("a", [1] * 40)
        same = compare("x", a, results("b", [1, 0] * 20, [1, 0] * 20), binary=True)
        apart = compare("x", a, results("b", [1] * 40, [0] * 40), binary=True)
        assert same.difference == apart.difference == -0.5
        assert apart.high - apart.low > 2 * (same.high - same.low)

    def test_twice_the_same(self) -> None:
        one, two = (compare("x", results("a", A), results("b", B), binary=True) for _ in range(2))
        assert (one.low, one.high) == (two.low, two.high)

    def test_texts_weigh_by_their_tokens_and_have_no_test(self) -> None:
        a = pd.DataFrame({"id": ["s", "t"], "loss": [1.0, 2.0], "num_tokens": [1, 3]})
        b = pd.concat([a.assign(loss=[2.0, 2.0], seed=seed) for seed in (0, 1)])
        found = compare("x", *(as_results(n, t, binary=False) for n, t in (("a", a), ("b", b))), binary=False)
        assert (found.a, found.b, found.p, found.lost) == (1.75, 2.0, None, None)
        assert (found.low, found.high) == (0.0, 1.0)  # either text alone


def test_the_order_of_the_examples_does_not_matter() -> None:
    turned = results("b", B)
    turned = type(turned)("b", turned.table.iloc[::-1])
    one, two = (compare("x", results("a", A), b, binary=True) for b in (results("b", B), turned))
    assert (one.lost, one.gained, one.low, one.high) == (two.lost, two.gained, two.low, two.high)


def test_other_examples_are_refused() -> None:
    with pytest.raises(UserError, match=r"known: a and b were measured on other examples \(1 of b alone, e.g. 'e2'\)"):
        compare("known", results("a", [1, 0]), results("b", [1, 0, 1]), binary=True)


def test_several_tests_are_corrected() -> None:
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
