from __future__ import annotations

import numpy as np
import pytest

from knowtune.common.statistics import apportion, interval_text, mean_interval


def test_one_value_says_nothing_about_the_spread() -> None:
    assert mean_interval([0.25]) == {"mean": 0.25, "half_width": None, "n": 1}


def test_two_values() -> None:
    # t(0.975, 1) = 12.7062047; standard error = (1 / sqrt 2) / sqrt 2 = 0.5
    found = mean_interval([0.0, 1.0])
    assert (found["mean"], found["n"]) == (0.5, 2)
    assert found["half_width"] == pytest.approx(12.706204736 / 2, rel=1e-9)


def test_three_values() -> None:
    # t(0.975, 2) = 4.30265273; variance 1, standard error 1 / sqrt 3
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found["mean"], found["n"]) == (2.0, 3)
    assert found["half_width"] == pytest.approx(4.302652730 / 3**0.5, rel=1e-9)


def test_another_confidence() -> None:
    # t(0.75, 1) = 1
    assert mean_interval([0.0, 2.0], confidence=0.5)["half_width"] == pytest.approx(1.0, rel=1e-12)


def test_equal_values_have_no_spread() -> None:
    assert mean_interval([0.1] * 5) == {"mean": 0.1, "half_width": 0.0, "n": 5}


def test_the_order_does_not_matter() -> None:
    assert mean_interval([0.1, 0.2, 0.3, 1e9]) == mean_interval([1e9, 0.3, 0.2, 0.1])


def test_no_values_are_our_own_mistake() -> None:
    with pytest.raises(ValueError, match=r"^no values$"):
        mean_interval([])


@pytest.mark.parametrize(
    ("mean", "half_width", "share", "text"),
    [
        (0.1234, None, True, "12.3 %"),
        (0.1234, 0.01, True, "12.3 % ± 1.0"),
        (0.1234, 0.01, False, "0.123 ± 0.010"),
        (-0.00001, None, False, "0.000"),
        (-0.25, 0.0, False, "-0.250 ± 0.000"),
    ],
)
def test_an_interval_as_text(mean: float, half_width: float | None, share: bool, text: str) -> None:
    assert interval_text({"mean": mean, "half_width": half_width, "n": 2}, share=share) == text


def test_seeds_without_a_value_are_counted() -> None:
    found = {"mean": 0.5, "half_width": 0.1, "n": 2, "without": 1}
    assert interval_text(found, share=True) == "50.0 % ± 10.0 (2 of 3 seeds)"
    assert interval_text({**found, "half_width": None, "n": 1}, share=False) == "0.500 (1 of 2 seeds)"


@pytest.mark.parametrize(
    ("num", "sizes", "expected"),
    [
        (5, {"a": 10, "b": 10}, [3, 2]),
        (5, {"a": 5, "b": 0}, [5, 0]),
        (0, {"a": 5, "b": 3}, [0, 0]),
        (4, {"a": 1, "b": 1, "c": 4}, [1, 1, 2]),  # 0.67, 0.67, 2.67
        (3, {"a": 3, "b": 3, "c": 0}, [2, 1, 0]),
        (0, {"a": 0}, [0]),
        (0, {}, []),
        (10**9, {"a": 8 * 10**9, "b": 10**9 + 1}, [888888889, 111111111]),
    ],
)
def test_shares_are_whole(num: int, sizes: dict[str, int], expected: list[int]) -> None:
    assert list(apportion(num, sizes).values()) == expected


def test_no_share_is_larger_than_its_group() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        sizes = {str(i): int(size) for i, size in enumerate(generator.integers(0, 6, size=5))}
        for num in range(sum(sizes.values()) + 1):
            shares = apportion(num, sizes)
            assert sum(shares.values()) == num
            assert all(0 <= shares[name] <= size for name, size in sizes.items())
