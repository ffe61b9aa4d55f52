from __future__ import annotations

from typing import Any

import pytest
import torch

from knowtune.preserve import distill
from knowtune.preserve.distill import divergences, score_divergences, state_divergences, top_divergences

DIRECTIONS = ("forward", "reverse")


def plainly(z: torch.Tensor, base: torch.Tensor, tau: float, direction: str) -> torch.Tensor:
    """Take the divergence by its definition."""
    q, p = (z / tau).softmax(-1), (base / tau).softmax(-1)
    one, other = (p, q) if direction == "forward" else (q, p)
    return (one * (one.log() - other.log())).sum(-1)


def logits(rows: int = 5, outputs: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    z, base = torch.randn(2, rows, outputs, generator=generator) * 2
    return z.requires_grad_(True), base


@pytest.mark.parametrize("chunk", [2**18, 22, 1])
@pytest.mark.parametrize("tau", [1.0, 2.5])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_divergence_and_gradient_are_by_definition(
    direction: Any, tau: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distill, "CHUNK", chunk)
    z, base = logits()
    weights = torch.arange(5.0)
    expected = plainly(z, base, tau, direction)
    (gradient,) = torch.autograd.grad((expected * weights).sum(), z)
    computed = divergences(z, base.clone(), tau, direction)
    torch.testing.assert_close(computed, expected, atol=1e-6, rtol=1e-5)
    (other,) = torch.autograd.grad((computed * weights).sum(), z)
    torch.testing.assert_close(other, gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_nothing_diverges_from_itself(direction: Any) -> None:
    z, _ = logits()
    computed = divergences(z, z.detach().clone(), 1.0, direction)
    assert computed.abs().max() < 1e-6
    (gradient,) = torch.autograd.grad(computed.sum(), z)
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("chunk", [2**18, 22])
@pytest.mark.parametrize("tau", [1.0, 2.5])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_whole_vocabulary_in_a_cache_is_the_exact_form(
    direction: Any, tau: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distill, "CHUNK", chunk)
    z, base = logits()
    log_p, ids = (base / tau).log_softmax(-1).sort(descending=True)
    rows, nothing = torch.tensor([3, 0, 1]), torch.full((3,), torch.nan)
    computed = top_divergences(z, rows, ids[rows], log_p[rows].half(), nothing, tau, direction)
    expected = plainly(z, base, tau, direction)[rows]
    torch.testing.assert_close(computed, expected, atol=2e-3, rtol=2e-3)
    one, other = (torch.autograd.grad(each.sum(), z)[0] for each in (computed, expected))
    torch.testing.assert_close(one, other, atol=5e-3, rtol=2e-3)


def by_outcomes(z: torch.Tensor, base: torch.Tensor, tau: float, direction: Any, *, cached: bool) -> torch.Tensor:
    """Take the divergence in either form, the cached one of all outcomes."""
    if not cached:
        return divergences(z, base.clone(), tau, direction)
    log_p, ids = (base / tau).log_softmax(-1).sort(descending=True)
    return top_divergences(z, torch.arange(len(z)), ids, log_p, torch.zeros(len(z)), tau, direction)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("tau", [1.0, 2.5])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_what_neither_writes_counts_nothing(direction: Any, tau: float, cached: bool) -> None:
    z, base = logits()
    left = torch.tensor([0, 1, 3, 4, 6, 7, 8, 9, 10])
    barred = torch.zeros(11, dtype=torch.bool)
    barred[[2, 5]] = True
    expected = plainly(z[:, left], base[:, left], tau, direction)
    (gradient,) = torch.autograd.grad(expected.sum(), z)  # 0 at the two
    tuned = z.detach().masked_fill(barred, -torch.inf).requires_grad_(True)
    computed = by_outcomes(tuned, base.masked_fill(barred, -torch.inf), tau, direction, cached=cached)
    torch.testing.assert_close(computed, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(computed.sum(), tuned)[0], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("of_base", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_what_one_alone_never_writes(direction: Any, of_base: bool, cached: bool) -> None:
    """It counts nothing where the mean is not over it, and makes the divergence infinite where it is."""
    z, base = (each.detach().clone() for each in logits())
    barred = base if of_base else z
    barred[1:, 4] = -torch.inf
    z.requires_grad_(True)
    q, p = z.softmax(-1), base.softmax(-1)
    one, other = (p, q) if direction == "forward" else (q, p)
    expected = torch.special.xlogy(one, one / other).sum(-1)
    infinite = of_base == (direction == "reverse")
    assert expected.isinf().tolist() == [False, *[infinite] * 4]
    computed = by_outcomes(z, base, 1.0, direction, cached=cached)
    torch.testing.assert_close(computed, expected, atol=1e-6, rtol=1e-5)
    (gradient,) = torch.autograd.grad(computed.sum(), z)
    assert bool(gradient.isfinite().all())
    right = (q - p).detach()
    if direction == "reverse":
        log_ratio = (q / p).log().masked_fill(q == 0, 0)
        right = torch.where(expected.isinf()[:, None], 0, q * (log_ratio - expected[:, None])).detach()
    torch.testing.assert_close(gradient, right, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_mass_that_float32_cannot_hold_is_none(direction: Any) -> None:
    z, base = torch.tensor([[0.0, 1.0, -200.0]]), torch.tensor([[1.0, 0.0, -torch.inf]])
    if direction == "forward":
        z, base = base, z
    computed = divergences(z.requires_grad_(True), base, 1.0, direction)
    (gradient,) = torch.autograd.grad(computed.sum(), z)
    assert bool(computed.isfinite().all()) and bool(gradient.isfinite().all())


@pytest.mark.parametrize("tau", [1.0, 2.5])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_mask_leaves_finite_logits_every_bit(direction: Any, tau: float, monkeypatch: pytest.MonkeyPatch) -> None:
    z, base = logits(64, 500)
    bits = []
    for masked in (False, True):
        monkeypatch.setattr(distill, "_is_barred", lambda logits, masked=masked: masked)
        computed = divergences(z, base.clone(), tau, direction)
        (gradient,) = torch.autograd.grad(computed.sum(), z)
        bits.append([part.detach().view(torch.int32) for part in (computed, gradient)])
    assert all(map(torch.equal, *bits))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("of_base", [True, False])
def test_what_is_no_number_stays_so(of_base: bool, direction: Any) -> None:
    z, base = (each.detach().clone() for each in logits())
    (base if of_base else z)[0, 0] = torch.nan
    z[1, 3] = base[1, 3] = -torch.inf
    assert divergences(z, base, 1.0, direction).isnan().tolist() == [True, *[False] * 4]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_fewer_outcomes_are_a_lower_bound(direction: Any) -> None:
    z, base = logits()
    expected = plainly(z, base, 2.0, direction)
    log_p, ids = (base / 2).log_softmax(-1).sort(descending=True)
    last = torch.zeros(5)
    for k in (1, 3, 6, 10):
        rest = log_p[:, k:].logsumexp(-1)
        computed = top_divergences(z, torch.arange(5), ids[:, :k], log_p[:, :k], rest, 2.0, direction)
        q, p = (z / 2).softmax(-1).gather(1, ids[:, :k]), log_p[:, :k].exp()
        q, p = (torch.cat([part, 1 - part.sum(1, keepdim=True)], 1) for part in (q, p))
        one, other = (p, q) if direction == "forward" else (q, p)
        by_definition = (one * (one / other).log()).sum(1)
        torch.testing.assert_close(computed, by_definition, atol=1e-5, rtol=1e-4)
        weights = torch.arange(5.0)
        slopes = [torch.autograd.grad((each * weights).sum(), z)[0] for each in (computed, by_definition)]
        torch.testing.assert_close(*slopes, atol=1e-5, rtol=1e-3)
        assert bool((computed >= last - 1e-5).all())
        assert bool((computed <= expected + 1e-5).all())
        last = computed.detach()


def test_states_and_scores() -> None:
    one, other = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0], [6.0, 8.0]])
    torch.testing.assert_close(state_divergences(one, other), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(score_divergences(one[:, :1], other[:, :1]), torch.tensor([1.0, 9.0]))
