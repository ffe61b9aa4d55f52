from __future__ import annotations

import pytest
import torch

from knowtune.common.errors import UserError
from knowtune.methods.fish.restrict_adapter import is_restricted, materialise, restrict

W, B = torch.arange(12.0).view(3, 4), torch.tensor([1.0, 2.0, 3.0])
MASK = {"0.weight": torch.tensor([1, 6, 11]), "0.bias": torch.tensor([0]), "1.scale": torch.tensor([2])}


def model() -> torch.nn.Module:
    linear, scales = torch.nn.Linear(4, 3), torch.nn.ParameterDict({"scale": torch.ones(3)})
    with torch.no_grad():
        linear.weight.copy_(W)
        linear.bias.copy_(B)
    return torch.nn.ModuleList([linear, scales])


def output(of: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    linear, scales = of  # type: ignore[misc]
    return linear(x) * scales["scale"]


def test_the_values_alone_are_trained_and_nothing_changes_at_first() -> None:
    one, x = model(), torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    before = output(one, x)
    restrict(one, MASK, keep={})
    assert is_restricted(one)
    assert torch.equal(output(one, x), before)
    assert sum(p.numel() for p in one.parameters() if p.requires_grad) == 5


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_other_entries_stay_bit_for_bit_whatever_the_optimiser_does(decay: float) -> None:
    one, x = model(), torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    restrict(one, MASK, keep={})
    optimizer = torch.optim.AdamW([p for p in one.parameters() if p.requires_grad], lr=0.1, weight_decay=decay)
    for _ in range(6):
        output(one, x).square().sum().backward()
        torch.nn.utils.clip_grad_norm_(one.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    trained = output(one, x)
    materialise(one)
    assert not is_restricted(one)
    assert torch.equal(output(one, x), trained)
    assert sorted(name for name, _ in one.named_parameters()) == ["0.bias", "0.weight", "1.scale"]
    for (name, p), start in zip(sorted(one.named_parameters()), (B, W, torch.ones(3)), strict=True):
        moved = (p.detach() != start).flatten().nonzero().flatten()
        assert moved.tolist() == MASK[name].tolist()


def test_it_is_training_with_masked_gradients() -> None:
    """Adam on the values equals Adam on the dense parameters whose gradients are masked, step for step."""
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    one, dense = model(), model()
    restrict(one, MASK, keep={})
    steps = [torch.optim.Adam([p for p in m.parameters() if p.requires_grad], lr=0.05) for m in (one, dense)]
    for _ in range(5):
        for m, optimizer in zip((one, dense), steps, strict=True):
            output(m, x).square().sum().backward()
            if m is dense:
                for name, p in m.named_parameters():
                    keep = torch.zeros(p.numel())
                    keep[MASK[name]] = 1.0
                    assert p.grad is not None
                    p.grad *= keep.view_as(p)
            optimizer.step()
            optimizer.zero_grad()
        assert torch.allclose(output(one, x), output(dense, x), atol=1e-5)


def test_what_is_kept_trainable() -> None:
    one = model()
    linear: torch.nn.Linear = one[0]  # type: ignore[index, assignment]
    restrict(one, {"1.scale": torch.tensor([0])}, keep={"0.bias": linear.bias})
    assert linear.bias.requires_grad
    assert not linear.weight.requires_grad


def test_a_mask_of_another_model() -> None:
    with pytest.raises(UserError, match=r"the mask names '0\.weigth'.*did you mean '0\.weight'\?"):
        restrict(model(), {"0.weigth": torch.tensor([1])}, keep={})
