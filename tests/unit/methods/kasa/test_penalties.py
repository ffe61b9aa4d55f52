"""The two penalties by their closed forms, their gradients, and PEFT's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from knowtune.common.errors import UserError
from knowtune.methods.kasa.penalties import orthogonality, penalty, singular_values
from tests.unit.methods.kasa.tuner.models import Layers, attach, shake


def layers(model: Any) -> list[Any]:
    return [getattr(model.base_model.model, name) for name in ("tall", "square", "wide")]


@torch.no_grad()
def by_hand(model: Any, beta: float, gamma: float, form: str) -> float:
    total = 0.0
    for layer in layers(model):
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        sides = [a @ a.T, b.T @ b] if form == "paper" else [a.T @ a, b @ b.T]  # the latter n x n, as released
        total += gamma * sum(float((side - torch.eye(len(side))).norm()) for side in sides)
        total += beta * float(layer.lora_diag["default"].square().sum())
    return total


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize(("beta", "gamma"), [(0.3, 0.2), (0.3, 0.0), (0.0, 0.2)])
def test_both_forms_and_reductions_by_hand(form: Any, beta: float, gamma: float) -> None:
    """The released form equals what its n x n identities would give."""
    model = shake(attach(Layers())).requires_grad_(False)
    expected = by_hand(model, beta, gamma, form)
    assert float(penalty(model, beta, gamma, "sum", form)) == pytest.approx(expected, rel=1e-5)
    assert float(penalty(model, beta, gamma, "mean", form)) == pytest.approx(expected / 3, rel=1e-5)


def test_summed_in_the_papers_form_it_is_pefts() -> None:
    model = shake(attach(Layers())).requires_grad_(False)
    config = model.peft_config["default"].kasa_config
    found = penalty(model, config.beta, config.gamma, "sum", "paper")
    assert float(found) == pytest.approx(float(model.base_model._get_kasa_loss()), rel=1e-6)


def test_coefficients_of_0_are_no_penalty() -> None:
    assert penalty(attach(Layers()), 0.0, 0.0) is None


def test_it_is_0_for_orthonormal_rows_alone() -> None:
    rows = torch.linalg.qr(torch.randn(12, 4, dtype=torch.float64)).Q.T.float()
    assert float(orthogonality([rows], "paper")) < 1e-5
    assert float(orthogonality([rows], "released")) == pytest.approx(math.sqrt(12 - 4), rel=1e-6)
    for other in (2 * rows, rows + 0.1 * rows.roll(1, 0)):
        assert float(orthogonality([other], "paper")) > 0.1


def test_at_its_minimum_the_gradient_is_0_and_finite() -> None:
    rows = torch.eye(3, 5, requires_grad=True)
    for form in ("paper", "released"):
        (gradient,) = torch.autograd.grad(orthogonality([rows], form), rows)  # type: ignore[arg-type]
        assert torch.equal(gradient, torch.zeros(3, 5))


def test_the_released_gradient_is_the_papers_times_r_over_its_own() -> None:
    a = torch.randn(3, 9, requires_grad=True)
    (paper,) = torch.autograd.grad(orthogonality([a], "paper"), a)
    (released,) = torch.autograd.grad(orthogonality([a], "released"), a)
    square = float((a @ a.T - torch.eye(3)).detach().square().sum())
    assert torch.allclose(released, paper * math.sqrt(square / (square + 6)), rtol=1e-5)


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_at_the_start_it_moves_a_and_ds_and_not_b(form: Any, reduction: Any) -> None:
    """B = 0 has no gradient; that of ds is 2 beta ds over the number of layers."""
    model = attach(Layers())
    penalty(model, 0.5, 0.1, reduction, form).backward()  # type: ignore[union-attr]
    for layer in layers(model):
        assert torch.equal(layer.lora_B["default"].weight.grad, torch.zeros_like(layer.lora_B["default"].weight))
        assert layer.lora_A["default"].weight.grad.abs().max() > 0
        diagonal = layer.lora_diag["default"]
        assert torch.allclose(diagonal.grad, diagonal.detach() / (3 if reduction == "mean" else 1), rtol=1e-5)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_it_keeps_nothing_of_the_size_of_a_or_b_for_the_backward_pass(form: Any) -> None:
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        lost = penalty(shake(attach(Layers())), 0.3, 0.2, form=form)
    assert lost is not None and lost.requires_grad
    assert sum(tensor.numel() for tensor in kept) <= 3 * 3 + 8  # ds of three layers with rank 3, and factors


def test_bfloat16_is_added_up_in_float32() -> None:
    diagonals = [torch.full((3,), 1.0 + 2**-7, dtype=torch.bfloat16) for _ in range(100)]
    assert float(singular_values(diagonals)) == pytest.approx(300 * (1 + 2**-7) ** 2, rel=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert penalty(shake(attach(Layers())), 0.1, 0.1).dtype == torch.float32  # type: ignore[union-attr]


def test_of_an_adapter_by_its_name_and_no_other() -> None:
    model = attach(Layers())
    model.add_adapter("mine", model.peft_config["default"])
    model.requires_grad_(False)
    assert penalty(model, 1.0, 0.0, adapter_name="mine") != penalty(model, 1.0, 0.0)
    with pytest.raises(UserError, match="no KaSA adapter 'other'; give adapter_name"):
        penalty(model, 0.1, 0.1, adapter_name="other")


@pytest.mark.parametrize(("beta", "gamma", "name"), [(-0.1, 0.0, "beta"), (0.1, -0.1, "gamma")])
def test_negative_coefficients_are_refused(beta: float, gamma: float, name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: got -0.1; allowed: 0 or more"):
        penalty(attach(Layers()), beta, gamma)
