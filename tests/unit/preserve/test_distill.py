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
