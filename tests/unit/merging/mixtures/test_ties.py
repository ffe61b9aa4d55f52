from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from knowtune.merging.mixtures.ties import Ties

ONE = torch.tensor([4.0, -1.0, 0.5, 2.0])
TWO = torch.tensor([2.0, 3.0, -0.1, -8.0])


def test_trim_elect_mean_by_hand() -> None:
    # half stays: one -> 4 0 0 2, two -> 0 3 0 -8; signs of the sums: + + . -; those that agree: 4 | 3 | none | -8
    found = Ties(density=0.5).combine([ONE, TWO], torch.tensor([0.5, 0.5]), 0)
    assert found.tolist() == [4.0, 3.0, 0.0, -8.0]


def test_the_mean_is_over_those_that_agree() -> None:
    # entry 0: both positive -> (4 + 2) / 2; entry 1: the sum elects + -> 3; entry 2: + -> 0.5; entry 3: - -> -8
    found = Ties(density=0.999).combine([torch.cat([ONE, torch.zeros(1)]), torch.cat([TWO, torch.zeros(1)])],
                                        torch.tensor([0.5, 0.5]), 0)  # fmt: skip
    assert found.tolist() == pytest.approx([3.0, 3.0, 0.5, -8.0, 0.0])


def test_weights_of_mean_one_keep_the_size() -> None:
    # three quarters of the weight: 2 * 0.75 * 4 = 6 and 2 * 0.25 * 2 = 1, mean 3.5
    deltas = [torch.tensor([4.0, 0.0]), torch.tensor([2.0, 0.0])]
    found = Ties(density=0.5).combine(deltas, torch.tensor([0.75, 0.25]), 0)
    assert found.tolist() == [3.5, 0.0]


def test_a_count_can_elect_the_sign() -> None:
    deltas = [torch.tensor([10.0, 0.0]), torch.tensor([-1.0, 0.0]), torch.tensor([-2.0, 0.0])]
    weights = torch.full((3,), 1 / 3)
    assert Ties(density=0.5).combine(deltas, weights, 0).tolist() == [10.0, 0.0]
    counted = Ties(density=0.5, majority_sign="frequency").combine(deltas, weights, 0)
    assert counted.tolist() == pytest.approx([-1.5, 0.0])


@pytest.mark.parametrize("options", [{"density": 0.0}, {"density": 1.1}, {"majority_sign": "sum"}])
def test_bounds(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        Ties(**options)  # type: ignore[arg-type]
