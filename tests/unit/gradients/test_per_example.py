"""A model lends itself to hooks and is given back; examples that cannot be told apart are refused."""

from __future__ import annotations

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.gradients.fisher import parameters_in
from knowtune.gradients.module_gradients import UnsupportedError
from knowtune.gradients.per_example import HookedGradients
from tests.unit.gradients.definition import diagonal


def test_the_model_is_left_as_it_was(base: Base) -> None:
    model = base.model()
    model.model.layers[0].train()
    model.lm_head.weight.requires_grad_(False)
    p = model.model.layers[0].mlp.up_proj.weight
    p.grad = torch.ones_like(p)
    before = [(q.requires_grad, q.grad) for q in model.parameters()]
    modes = [m.training for m in model.modules()]
    weights = [q.detach().clone() for q in model.parameters()]
    numbers = torch.get_rng_state()
    for labels in ("true", "expected"):
        diagonal(base, model=model, labels=labels)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert [(q.requires_grad, q.grad) for q in model.parameters()] == before
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(q, w) for q, w in zip(model.parameters(), weights, strict=True))
    assert not any(m._forward_hooks for m in model.modules())
    assert model.config.use_cache is True


def test_also_after_an_error(base: Base) -> None:
    model = base.model()
    with pytest.raises(ZeroDivisionError), HookedGradients(model, parameters_in(model)):
        1 / 0  # noqa: B018
    assert all(p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_a_module_that_cannot_be_told_apart() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with (
        HookedGradients(model, parameters_in(model)) as source,
        pytest.raises(UnsupportedError, match="7 rows for 2"),
    ):
        source.start_forward(2)
        source.backward(model(torch.randn(7, 4)).sum(), None)  # type: ignore[arg-type]
