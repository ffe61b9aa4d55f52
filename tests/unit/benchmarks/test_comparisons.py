"""The rules of the evidence pages, on numbers made up so that a laxer rule says something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from benchmarks.evidence.claims import Tally, split_learned, tally
from benchmarks.evidence.comparisons import GRID_SEED, SECOND_SEED, Comparison, sort_trainings
from benchmarks.evidence.curves import chosen_rate, common_span, decided_rate, lost_at, make_curve, open_rates
from benchmarks.evidence.differences import Difference, Lack
from benchmarks.evidence.tables import Claim, claims_table, equal_learning_table, trained_table

Points = Mapping[float, tuple[float, float]]  # rate -> learned, lost


def seeds(points: Points, num: int = 3, grid: Points | None = None) -> dict[int, dict[float, dict[str, float]]]:
    """Give every seed the same trainings, but for a thousandth more of both; and the grid's seed its own."""
    every = dict.fromkeys(range(num), points) | ({GRID_SEED: grid} if grid else {})
    return {
        seed: {
            rate: {"generalisation": learned + seed * 1e-3, "forgotten": lost + seed * 1e-3}
            for rate, (learned, lost) in own.items()
        }
        for seed, own in every.items()
    }


def comparison(base: float = 0.1, **arms: dict[int, dict[float, dict[str, float]]]) -> Comparison:
    return Comparison("made up", "generalisation", "forgotten", {"generalisation": base, "forgotten": 0.0}, arms)


def test_a_rate_is_chosen_by_the_reported_measure_with_the_seed_that_no_result_has() -> None:
    grid = {1e-3: (0.3, 0.2), 1e-2: (0.2, 0.1)}
    arm = seeds({1e-3: (0.1, 0.1), 1e-2: (0.9, 0.9)}, grid=grid)  # the results like the other rate better
    arms = comparison(arm=arm)
    assert arms.rate("arm") == 1e-3
    assert GRID_SEED not in arms.run("arm")
    assert [round(metrics["generalisation"], 3) for metrics in arms.run("arm").values()] == [0.1, 0.101, 0.102]
    # the validation loss of these trainings would choose 1e-2; the measure that is reported chooses 1e-3
    tried = {1e-3: {"generalisation": 0.3, "loss": 2.0}, 1e-2: {"generalisation": 0.2, "loss": 1.0}}
    assert chosen_rate(tried, "generalisation") == 1e-3


def test_of_equal_rates_the_lowest_is_chosen() -> None:
    assert chosen_rate({2.0: {"generalisation": 0.5}, 1.0: {"generalisation": 0.5}}, "generalisation") == 1.0


def learning(*shares: float) -> dict[float, dict[str, float]]:
    """Give the rates 1, 2, and so on, what they learn."""
    return {float(rate): {"generalisation": share} for rate, share in enumerate(shares, 1)}


@pytest.mark.parametrize(
    ("tried", "again", "equal", "rate"),
    [
        ((0.3, 0.5, 0.4), (), [], 2.0),
        ((0.3, 0.5, 0.5), (), [], 2.0),
        ((0.5, 0.3, 0.5), (), [1.0, 3.0], None),
        ((0.5, 0.3, 0.5), (0.2, 0.9, 0.3), [1.0, 3.0], 3.0),
        ((0.5, 0.5, 0.5), (0.2, 0.3), [1.0, 2.0, 3.0], None),
        ((0.5, 0.5, 0.5), (0.2, 0.3, 0.3), [1.0, 2.0, 3.0], 2.0),
        ((0.5, 0.5, 0.5), (0.3, 0.2, 0.3), [1.0, 2.0, 3.0], None),
    ],
    ids=["one best", "neighbours", "apart", "decided", "half trained", "decided for neighbours", "apart again"],
)
def test_a_second_seed_decides_between_equal_rates_that_are_not_neighbours(
    tried: tuple[float, ...], again: tuple[float, ...], equal: list[float], rate: float | None
) -> None:
    assert open_rates(learning(*tried), "generalisation") == equal
    assert decided_rate(learning(*tried), learning(*again), "generalisation") == rate


def test_an_arm_whose_rate_is_open_is_in_no_count() -> None:
    points = {1.0: (0.2, 0.1), 2.0: (0.3, 0.2), 3.0: (0.4, 0.3)}
    arm = seeds(points, grid=dict.fromkeys(points, (0.2, 0.2)))
    lowest = comparison(arm=arm, other=seeds(points, grid=points))  # a page that does not ask for the second seed
    assert (lowest.rate("arm"), lowest.is_open("arm")) == (1.0, False)
    arms = replace(lowest, second=True)
    assert (arms.rate("arm"), arms.is_open("arm"), arms.is_open("other")) == (None, True, False)
    differences = [arms.difference("arm", "other", "generalisation"), arms.at_equal_learning("arm", "other")]
    assert [each.lacks for each in differences] == ["a rate of arm"] * 2
    assert str(tally(differences)) == "**too few comparisons**: 0 wins, 0 losses, 0 undecided, 2 without a rate"
    arm[SECOND_SEED] = {rate: {"generalisation": rate, "forgotten": 0.0} for rate in points}
    assert (arms.rate("arm"), list(arms.run("arm"))) == (3.0, [0, 1, 2])
    assert not arms.at_equal_learning("arm", "other").lacks


def test_a_measure_of_which_less_is_better_chooses_the_least() -> None:
    assert chosen_rate({1.0: {"forgotten": 0.5}, 2.0: {"forgotten": 0.1}}, "forgotten") == 2.0


def test_at_chosen_rates_one_forgets_more_and_at_equal_learning_less() -> None:
    grid = {1.0: (0.2, 0.2), 2.0: (0.8, 0.7)}  # the one learns most at a high rate, and forgets much there
    one = seeds({1.0: (0.2, 0.1), 2.0: (0.8, 0.7)}, grid=grid)
    other = seeds({1.0: (0.1, 0.2), 2.0: (0.5, 0.6)}, grid={1.0: (0.1, 0.2), 2.0: (0.5, 0.6)})
    arms = comparison(one=one, other=other)
    assert arms.difference("one", "other", "forgotten").verdict == -1
    equal = arms.at_equal_learning("one", "other")
    assert equal.verdict == 1
    # from 0.2 to 0.5 the one goes from 0.1 to 0.4, the other from 0.3 to 0.6
    assert equal.mean == pytest.approx(-0.2)
    assert equal.levels == pytest.approx((0.201, 0.501))
    assert equal.seeds == (0, 1, 2)


def test_between_the_base_and_the_lowest_rate_nothing_is_compared() -> None:
    one = seeds({1.0: (0.5, 0.4), 2.0: (0.6, 0.5)})
    other = seeds({1.0: (0.2, 0.1), 2.0: (0.4, 0.3)})  # a line from the base would meet the other's levels
    equal = comparison(one=one, other=other).at_equal_learning("one", "other")
    assert equal.mean is None
    assert (equal.lacks, equal.why) == ("rates at which both learn the same", Lack.LEVEL)


def test_an_arm_with_one_rate_has_no_curve() -> None:
    one = seeds({2.0: (0.3, 0.9)})  # at a lower rate it may forget less
    other = seeds({1.0: (0.2, 0.1), 2.0: (0.4, 0.3)})
    equal = comparison(one=one, other=other).at_equal_learning("one", "other")
    assert (equal.lacks, equal.why) == ("two rates of both", Lack.TRAININGS)


def test_seeds_are_paired_and_each_is_compared_at_levels_of_its_own() -> None:
    gaps = {0: 0.10, 1: 0.11, 2: 0.12}
    one = {
        seed: {
            1.0: {"generalisation": 0.1 + 0.2 * seed, "forgotten": 0.1 + 0.3 * seed},
            2.0: {"generalisation": 0.05 + 0.2 * seed, "forgotten": 0.9},  # learns less again: no part of the curve
        }
        for seed in gaps
    }
    other = {
        seed: {
            1.0: {"generalisation": 0.2 * seed, "forgotten": 0.3 * seed - gap},
            2.0: {"generalisation": 0.2 + 0.2 * seed, "forgotten": 0.2 + 0.3 * seed - gap},
        }
        for seed, gap in gaps.items()
    }
    equal = comparison(one=one, other=other).at_equal_learning("one", "other")
    assert equal.mean == pytest.approx(0.11)  # the spread over seeds, of 0.3 a seed, is in neither
    assert equal.half_width is not None and equal.half_width < 0.03
    assert equal.verdict == -1


def test_fewer_than_three_seeds_decide_nothing() -> None:
    points = {1.0: (0.2, 0.1), 2.0: (0.4, 0.3)}
    arms = comparison(one=seeds(points, num=2, grid=points), other=seeds(points, num=5, grid=points))
    assert arms.difference("one", "other", "generalisation").lacks == "seeds of one"
    assert arms.at_equal_learning("one", "other").lacks


def test_a_curve_ends_where_most_is_learned() -> None:
    rates = {1.0: (0.2, 0.1), 2.0: (0.6, 0.5), 3.0: (0.4, 0.9)}
    curve = make_curve({rate: {"a": learned, "b": lost} for rate, (learned, lost) in rates.items()}, "a", "b")
    assert curve == [(0.2, 0.1), (0.6, 0.5)]
    assert lost_at(curve, 0.4) == pytest.approx(0.3)
    assert lost_at(curve, 0.2) == 0.1
    assert common_span(curve, [(0.3, 0.0)]) == (0.3, 0.3)
    assert common_span(curve, [(0.7, 0.0)]) is None


def test_a_task_that_no_arm_learns_is_in_no_count() -> None:
    at_chance = comparison(arm=seeds({1.0: (0.0999, 0.9)}), other=seeds({1.0: (0.098, 0.1)}))
    learned = comparison(arm=seeds({1.0: (0.2, 0.9)}), other=seeds({1.0: (0.098, 0.1)}))
    assert split_learned([at_chance, learned]) == ([learned], [at_chance])


WIN, LOSS, OPEN = (Difference("generalisation", (0, 1, 2), mean, 0.1) for mean in (0.2, -0.2, 0.05))
LACKING = Difference("generalisation", lacks="seeds of arm")
APART = Difference("generalisation", lacks="rates at which both learn the same", why=Lack.LEVEL)


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([WIN], "too few comparisons"),
        ([WIN, WIN], "too few comparisons"),
        ([WIN, WIN, LACKING], "too few comparisons"),
        ([WIN, WIN, OPEN], "supported"),
        ([WIN, OPEN, OPEN], "not supported"),
        ([WIN, WIN, WIN, LOSS], "mixed"),
        ([LOSS, LOSS, OPEN], "contradicted"),
        ([LOSS, OPEN, OPEN], "not supported"),
        ([], "too few comparisons"),
    ],
)
def test_a_claim_needs_three_comparisons(differences: list[Difference], word: str) -> None:
    assert tally(differences).word == word


def test_wins_losses_and_undecided_are_said() -> None:
    counts = tally([WIN, WIN, LOSS, OPEN, LACKING, APART, APART])
    assert counts == Tally(2, 1, 1, 1, 2)
    assert str(counts) == "**mixed**: 2 wins, 1 loss, 1 undecided, 1 not trained, 2 without a common level"


def test_the_page_says_what_is_trained() -> None:
    arms = comparison(
        one=seeds({1.0: (0.2, 0.1)}, grid={1.0: (0.2, 0.1)}), other=seeds({1.0: (0.4, 0.1)}, grid={1.0: (0.4, 0.1)})
    )
    names = {"one": "One", "other": "Other"}
    assert list(trained_table([arms], [("one", "other")], names))[::2] == [
        "| comparison | One − Other |",
        "| made up | learning |",
    ]


def test_tables_are_made_of_declared_arms() -> None:
    records = [
        {"part": part, "alpha": alpha, "seed": seed, "metrics": {"generalisation": alpha, "forgotten": alpha - less}}
        for part, less in (("none", 0.0), ("replay", 0.3))
        for alpha in (0.5, 1.0)
        for seed in (*range(3), GRID_SEED)
    ]
    arms = comparison(**sort_trainings(records, lambda record: str(record["part"]), rate="alpha"))
    names = {"none": "plain", "replay": "replayed"}
    claim = Claim("replay", "none", "replay keeps", only="made")
    nothing = "**too few comparisons**: 0 wins, 0 losses, 1 undecided"
    kept = "**too few comparisons**: 1 win, 0 losses, 0 undecided"
    assert list(claims_table([arms], [claim]))[2:] == [f"| replay keeps | {nothing} | {kept} |"]
    assert list(claims_table([arms], [Claim("replay", "none", "", only="elsewhere")]))[2:] == []
    lines = list(equal_learning_table([arms], [("replay", "none")], names, ["forgotten", "text_drift"]))
    row = "| replayed − plain | made up | 3 | 50.0 to 100.0 | **-30.0 ± 0.0** better | – |"
    assert lines[2:] == [row]
