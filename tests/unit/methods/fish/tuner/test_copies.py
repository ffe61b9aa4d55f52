"""Modules that compute with changed copies: what autograd keeps of them, and that they compute the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from knowtune.methods.fish.tuner.copies import call_with, is_repeatable
from tests.unit.methods.fish.tuner.models import attach, llama, loss_of, spread


class Norm(nn.Module):
    """As a Llama's, with an input that it may do without, dropout, and more than one output."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(1, 2, 8), requires_grad=False)

    def forward(self, x: torch.Tensor, *, shift: torch.Tensor | None = None) -> tuple[torch.Tensor, str]:
        normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        y = self.weight * nn.functional.dropout(normed, 0.5)
        return (y if shift is None else y + shift), "no tensor"


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.inner = nn.Linear(8, 8)


def kept_bytes(loss) -> int:
    """What autograd keeps for the backward pass, each tensor once, but for what a model has anyway."""
    kept = {}

    def keep(tensor):
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address is taken twice
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_entries_in_norms_keep_no_more_than_frozen_norms():
    def frozen():
        model = llama().requires_grad_(False)
        model.get_input_embeddings().register_forward_hook(lambda _, __, states: states.requires_grad_())
        return model

    model = frozen()
    mask = {name: torch.tensor([0, 9]) for name, _ in model.named_parameters() if "norm" in name}
    assert len(mask) == 5
    attached = attach(frozen(), mask)
    one_input = 2 * 8 * 16 * 4
    assert kept_bytes(lambda: loss_of(attached)) < kept_bytes(lambda: loss_of(model)) + one_input


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_computed_again_a_module_gives_the_same_bits(shifted, autocast, monkeypatch):
    found = []
    for repeated in (True, False):
        monkeypatch.setattr("knowtune.methods.fish.tuner.copies.is_repeatable", lambda _, repeated=repeated: repeated)
        torch.manual_seed(0)
        x, weight = torch.randn(3, 8, requires_grad=True), torch.randn(8, requires_grad=True)
        options = {"shift": x.detach().clone().requires_grad_()} if shifted else {}
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y, word = call_with(Norm(), {"weight": weight}, (x,), options)
        torch.rand(1)  # the generator has gone on by the time of the backward pass
        leaves = [x, weight, *options.values()]
        found.append([y, *torch.autograd.grad(y.sin().sum(), leaves), torch.rand(1)])
        assert word == "no tensor"
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_an_input_that_was_overwritten_is_refused():
    weight, x = torch.ones(8, requires_grad=True), torch.ones(2, 8)
    y, _ = call_with(Norm(), {"weight": weight}, (x,), {})
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_step_between_forward_and_backward_changes_no_gradient():
    found = []
    for stepped in (False, True):
        attached = attach(llama(), {"model.norm.weight": torch.tensor([1, 5])})
        loss = loss_of(attached)
        if stepped:
            with torch.no_grad():
                next(p for p in attached.parameters() if p.requires_grad).add_(1)
        loss.backward()
        found.append(spread(attached, "gradients")["model.norm.weight"])
    assert torch.equal(*found)


def test_only_what_is_cheap_and_changes_nothing_is_computed_again():
    hooked = Norm()
    hooked.register_forward_hook(lambda *_: None)
    batch, around, convolution, frugal = nn.BatchNorm1d(8), Around(), nn.Conv1d(2, 2, 3), nn.LayerNorm(8)
    assert is_repeatable(Norm()) and is_repeatable(nn.RMSNorm(8))
    assert not any(map(is_repeatable, (hooked, batch, around, convolution, frugal)))
