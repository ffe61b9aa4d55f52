from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from knowtune.merging.mixtures.dare import Dare

HALF = torch.tensor([0.5, 0.5])


def test_what_stays_is_rescaled() -> None:
    found = Dare(density=0.25).combine([torch.ones(4000)], torch.ones(1), 0)
    assert sorted(set(found.tolist())) == [0.0, 4.0]
    assert found.mean().item() == pytest.approx(1.0, abs=0.15)  # 5.5 standard errors of 0.027


def test_the_average_is_kept() -> None:
    found = Dare(density=0.5).combine([torch.ones(4000), torch.full((4000,), 3.0)], HALF, 0)
    assert sorted(set(found.tolist())) == [0.0, 1.0, 3.0, 4.0]  # 2 * (0.5 * 1 or 0) + 2 * (0.5 * 3 or 0)
    assert found.mean().item() == pytest.approx(2.0, abs=0.14)


def test_signs_can_be_elected() -> None:
    deltas = [torch.full((1000,), 1.0), torch.full((1000,), -1.0)]
    elected = Dare(density=0.5, elect_sign=True).combine(deltas, HALF, 0)
    # both stay: the sum is 0, which elects +, 2 stays; one stays: 2 or -2; none: 0
    assert sorted(set(elected.tolist())) == [-2.0, 0.0, 2.0]
    plain = Dare(density=0.5).combine(deltas, HALF, 0)
    assert sorted(set(plain.tolist())) == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize("elect_sign", [False, True])
def test_the_seed_alone_decides(elect_sign: bool) -> None:
    member, deltas = Dare(elect_sign=elect_sign), [torch.randn(200, generator=torch.Generator().manual_seed(1))] * 2
    torch.manual_seed(0)
    one = member.combine(deltas, HALF, 7)
    torch.manual_seed(123)
    two = member.combine(deltas, HALF, 7)
    assert torch.equal(one, two)
    assert not torch.equal(one, member.combine(deltas, HALF, 8))


def test_the_global_generator_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    Dare().combine([torch.ones(10)], torch.ones(1), 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("options", [{"density": 0.0}, {"density": 1.1}, {"majority_sign": "sum"}, {"elect_sign": 1}])
def test_bounds(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        Dare(**options)  # type: ignore[arg-type]
