from __future__ import annotations

import math

import pytest
from scipy.stats import t, ttest_ind

from knowtune.common.statistics import mean_interval
from knowtune.evaluation.noise import seed_noise


def test_of_two_runs_it_is_where_students_test_turns() -> None:
    one, other = [0.1, 0.4, 0.25], [0.5, 0.6, 0.9]
    floor = seed_noise([mean_interval(one), mean_interval(other)])
    assert floor is not None
    apart = [value - sum(other) / 3 + sum(one) / 3 + floor for value in other]
    assert ttest_ind(one, apart).pvalue == pytest.approx(0.05)


def test_a_run_of_one_seed_says_nothing_of_the_spread() -> None:
    two = mean_interval([0.0, 1.0])
    assert seed_noise([two, mean_interval([0.7])]) == pytest.approx(float(t.ppf(0.975, 1)) * math.sqrt(0.5))
    assert seed_noise([mean_interval([0.7])]) is None
    assert seed_noise([]) is None
