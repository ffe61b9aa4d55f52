from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from knowtune.common.errors import UserError
from knowtune.common.statistics import apportion
from knowtune.models.masks import (
    num_entries,
    num_parameters,
    overlap,
    random_entries,
    random_entries_per_parameter,
    read_mask,
    require_fits,
    rest,
    top_entries,
    top_entries_per_parameter,
    write_mask,
)
from tests.unit.helpers import equal_states
from tests.unit.selectors.oracle import SHAPES, flat, logistic, tied, top

POOLS = {"free": logistic(), "tied": tied()}
NOTHING = torch.tensor([], dtype=torch.int64)


def scores_of(kind: str) -> tuple[dict[str, torch.Tensor], list[float]]:
    pool = POOLS[kind]
    return pool.split(pool.gradients[1]), pool.gradients[1].tolist()


def test_counts() -> None:
    assert num_parameters({**SHAPES, "scalar": ()}) == 123
    assert num_entries({"a": torch.tensor([0, 3]), "b": NOTHING}) == 2


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("num", [0, 1, 2, 13, 60, 121, 122])
class TestTheBest:
    def test_of_all_is_what_sorting_gives(self, kind: str, num: int) -> None:
        scores, line = scores_of(kind)
        found = top_entries(scores, num)
        assert list(found) == list(SHAPES)
        assert flat(POOLS[kind], found) == top(line, num)
        assert all(indices.dtype == torch.int64 for indices in found.values())

    def test_within_a_mask(self, kind: str, num: int) -> None:
        scores, line = scores_of(kind)
        outer = top_entries(scores, max(num, 61))
        turned = {name: -values for name, values in scores.items()}
        found = top_entries(turned, num, outer)
        assert flat(POOLS[kind], found) == top([-v for v in line], num, flat(POOLS[kind], outer))

    def test_of_every_parameter(self, kind: str, num: int) -> None:
        scores, line = scores_of(kind)
        shares = apportion(num, {"a": 15, "b": 7, "c": 100})
        parts = {"a": range(15), "b": range(15, 22), "c": range(22, 122)}
        expected = [i for name, part in parts.items() for i in top(line, shares[name], part)]
        assert flat(POOLS[kind], top_entries_per_parameter(scores, num)) == expected

    def test_of_every_parameter_lies_in_a_larger_one(self, kind: str, num: int) -> None:
        scores, _ = scores_of(kind)
        outer = top_entries_per_parameter(scores, max(num, 61))
        found = top_entries_per_parameter(scores, num, outer)
        assert num_entries(found) == num
        assert set(flat(POOLS[kind], found)) <= set(flat(POOLS[kind], outer))

    def test_by_lot(self, kind: str, num: int) -> None:
        for draw in (random_entries, random_entries_per_parameter):
            one, two, other = (draw(SHAPES, num, np.random.default_rng(seed)) for seed in (0, 0, 1))
            assert equal_states(one, two)
            assert list(one) == list(SHAPES)
            assert flat(POOLS[kind], one) == sorted(set(flat(POOLS[kind], one)))
            assert (num in (0, 122)) == equal_states(one, other)
            assert num_entries(one) == num

    def test_by_lot_within_a_mask(self, kind: str, num: int) -> None:
        outer = top_entries(scores_of(kind)[0], max(num, 61))
        for draw in (random_entries, random_entries_per_parameter):
            found = [draw(SHAPES, num, np.random.default_rng(seed), outer) for seed in (0, 0, 1)]
            assert equal_states(found[0], found[1])
            assert (num in (0, 121, 122)) or not equal_states(found[0], found[2])
            assert flat(POOLS[kind], found[0]) == sorted(set(flat(POOLS[kind], found[0])))
            assert set(flat(POOLS[kind], found[0])) <= set(flat(POOLS[kind], outer))
            assert num_entries(found[0]) == num

    def test_the_rest_is_what_a_mask_has_not(self, kind: str, num: int) -> None:
        mask = top_entries(scores_of(kind)[0], num)
        left = flat(POOLS[kind], rest(mask, SHAPES))
        assert sorted(left + flat(POOLS[kind], mask)) == list(range(122))


def test_draws_within_all_entries_are_those_without_a_mask() -> None:
    everything = {name: torch.arange(math.prod(shape)) for name, shape in SHAPES.items()}
    for draw in (random_entries, random_entries_per_parameter):
        one, other = (draw(SHAPES, 31, np.random.default_rng(3), within) for within in (None, everything))
        assert equal_states(one, other)


def test_shares_of_every_parameter_are_those_of_its_entries_in_the_mask() -> None:
    outer = {"a": torch.arange(10), "c": torch.arange(0, 60, 2)}  # 10 of 15, none of 7, 30 of 100
    found = random_entries_per_parameter(SHAPES, 8, np.random.default_rng(0), outer)
    assert {name: len(indices) for name, indices in found.items()} == {"a": 2, "none": 0, "b": 0, "c": 6}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_equal_scores_go_to_the_first(dtype: torch.dtype) -> None:
    found = top_entries({"a": torch.zeros(3, dtype=dtype), "b": torch.ones(2, 2, dtype=dtype)}, 5)
    assert {name: indices.tolist() for name, indices in found.items()} == {"a": [0], "b": [0, 1, 2, 3]}


def test_a_nested_choice_is_a_part_of_the_larger_one() -> None:
    scores, _ = scores_of("tied")
    found = [set(flat(POOLS["tied"], top_entries(scores, num))) for num in range(123)]
    assert all(small < large for small, large in pairwise(found))


@pytest.mark.parametrize("num", [-1, 4])
def test_more_than_there_are(num: int) -> None:
    with pytest.raises(ValueError, match=f"^{num} of 3 entries$"):
        top_entries({"a": torch.zeros(3)}, num)


def test_no_number() -> None:
    with pytest.raises(ValueError, match=r"^a score is NaN$"):
        top_entries({"a": torch.tensor([1.0, float("nan")])}, 1)


def test_overlap() -> None:
    one = {"a": torch.tensor([0, 1, 2]), "b": torch.tensor([5])}
    assert overlap(one, one) == 1.0
    assert overlap(one, {"a": torch.tensor([1, 2, 3]), "c": torch.tensor([5])}) == 0.5
    assert overlap(one, {}) == 0.0
    assert overlap({"a": NOTHING}, one) == 1.0


MASK = {"a.weight": torch.tensor([0, 3, 2**33]), "b": NOTHING}


def test_a_mask_comes_back(tmp_path: Path) -> None:
    write_mask(tmp_path / "m", MASK)
    assert equal_states(read_mask(tmp_path / "m"), MASK)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    "indices",
    [
        torch.tensor([0.0, 1.0]),
        torch.tensor([0, 1], dtype=torch.int32),
        torch.tensor([[0, 1]]),
        torch.tensor([1, 0]),
        torch.tensor([1, 1]),
        torch.tensor([-1, 0]),
    ],
)
def test_what_is_no_mask(tmp_path: Path, indices: torch.Tensor) -> None:
    path = tmp_path / "m"
    save_file({"w": indices}, path)
    with pytest.raises(UserError) as caught:
        read_mask(path)
    assert str(caught.value) == (
        f"{path}: w: not a mask; allowed: int64 indices from 0 on, in order, each once. Run the select stage again"
    )


@pytest.mark.parametrize("cut", [0, 3, 8, 60, -1])
def test_a_file_that_is_cut_short(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "m"
    write_mask(path, MASK)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=rf"^{path}: not readable \(.*\); run the select stage again$"):
        read_mask(path)


SIZES: dict[str, Any] = {"a.weight": (4, 2), "b": (3,)}


def test_a_mask_that_fits() -> None:
    require_fits({"a.weight": torch.tensor([0, 7]), "b": NOTHING}, SIZES, "here")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"a.weigth": NOTHING}, "here: the mask names 'a.weigth', which this model does not have; "
         "did you mean 'a.weight'?"),
        ({"zzz": NOTHING}, "here: the mask names 'zzz', which this model does not have"),
        ({"b": torch.tensor([0, 3])}, "here: the mask names entry 3 of 'b', which has 3; "
         "it was made for another model"),
    ],
)  # fmt: skip
def test_a_mask_that_does_not_fit(mask: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(UserError) as caught:
        require_fits(mask, SIZES, "here")
    assert str(caught.value) == message
