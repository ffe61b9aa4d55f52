from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.base import Method
from knowtune.methods.fish.method import Fish
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.methods.peft import Peft
from knowtune.preserve.anchor import Anchor, open_anchor
from knowtune.preserve.options import Anchor as Options

LORA = Lora(rank=3, alpha=6.0)
METHODS: dict[str, Method] = {"full": Full(), "fish": Fish(), "lora": LORA}


def options(**changes: Any) -> Options:
    return Options.model_validate({"weight": 0.5, **changes})


def attached(base: Base, method: Method, pattern: str = "") -> Any:
    """Attach a method to a tiny base; a mask takes every seventh entry."""
    torch.manual_seed(0)
    model = base.model()
    if not isinstance(method, Fish):
        return method.attach(model)
    named = {name: p for name, p in model.named_parameters() if pattern in name}
    return method.attach_masked(model, {name: torch.arange(0, p.numel(), 7) for name, p in named.items()}, None)


def opened(model: Any, fisher: Callable[[str], torch.Tensor] | None = None, **changes: Any) -> Anchor:
    anchor = open_anchor(options(**changes), model, "runs.x.preserve.anchor", fisher)
    assert anchor is not None
    return anchor


def shake(model: Any, size: float = 0.05) -> Any:
    """Move all that is trained, as training would."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator) * size
                parameter.copy_(parameter + noise.to(parameter.dtype))
    return model


def information(base: Base) -> Callable[[str], torch.Tensor]:
    """Make Fisher information of every weight, all different."""
    generator = torch.Generator().manual_seed(5)
    made = {name: torch.rand(p.shape, generator=generator) for name, p in base.model().named_parameters()}
    return made.__getitem__


def ones(base: Base) -> Callable[[str], torch.Tensor]:
    return {name: torch.ones(p.shape) for name, p in base.model().named_parameters()}.__getitem__


def pull(anchor: Anchor, model: Any) -> list[torch.Tensor]:
    """Give the gradient of a penalty."""
    model.zero_grad()
    penalty = anchor.penalty(model)
    assert penalty is not None
    penalty.backward()  # type: ignore[no-untyped-call]
    return [p.grad for p in model.parameters() if p.grad is not None]


def square(anchor: Anchor, model: Any) -> float:
    return float(anchor.square(model).detach())


def gradient_of(value: torch.Tensor, model: Any) -> list[torch.Tensor]:
    trained = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(value, trained, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def close(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    alike = [torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(one, other, strict=True)]
    return bool(alike) and all(alike)


@pytest.mark.parametrize("form", ["l2", "ewc"])
@pytest.mark.parametrize("method", METHODS)
class TestEveryMethod:
    def test_penalty_by_hand(self, base: Base, method: str, form: str) -> None:
        fisher = information(base) if form == "ewc" else None
        model = attached(base, METHODS[method])
        anchor = opened(model, fisher, form=form, weight=3.0)
        folded = METHODS[method].fold(shake(attached(base, METHODS[method])))
        total, pristine = torch.zeros((), dtype=torch.float64), dict(base.model().named_parameters())
        for name, parameter in folded.named_parameters():
            change = (parameter - pristine[name]).detach().double().square()
            total += (change if fisher is None else change * fisher(name)).sum()
        penalty = anchor.penalty(shake(model))
        assert penalty is not None
        assert float(penalty.detach()) == pytest.approx(1.5 * float(total), rel=1e-4)

    def test_at_the_base_penalty_and_gradient_are_0(self, base: Base, method: str, form: str) -> None:
        model = attached(base, METHODS[method])
        anchor = opened(model, information(base) if form == "ewc" else None, form=form)
        assert all(bool((gradient == 0).all()) for gradient in pull(anchor, model))
        assert square(anchor, model) == 0

    def test_it_draws_no_random_number_and_leaves_the_model_as_it_is(self, base: Base, method: str, form: str) -> None:
        model = shake(attached(base, METHODS[method]))
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        generator = torch.get_rng_state()
        anchor = opened(model, information(base) if form == "ewc" else None, form=form)
        pull(anchor, model)
        assert torch.equal(torch.get_rng_state(), generator)
        assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


@pytest.mark.parametrize("method", METHODS)
def test_ewc_with_fisher_information_of_1_is_l2_sp(base: Base, method: str) -> None:
    model = attached(base, METHODS[method])
    plain, weighted = opened(model), opened(model, ones(base), form="ewc")
    shake(model)
    assert square(plain, model) == pytest.approx(square(weighted, model), rel=1e-5)
    one, other = pull(plain, model), pull(weighted, model)
    assert close([g.clone() for g in one], other)


def test_gradient_of_parameters_by_hand(base: Base) -> None:
    model, fisher = attached(base, Full()), information(base)
    anchor = opened(model, fisher, form="ewc", weight=3.0)
    shake(model)
    found = pull(anchor, model)
    start = base.model()
    expected = [3.0 * fisher(name) * (p - start.get_parameter(name)).detach() for name, p in model.named_parameters()]
    assert close(found, expected)


@pytest.mark.parametrize("form", ["l2", "ewc"])
def test_gradient_of_lora_by_the_materialised_change(base: Base, form: str) -> None:
    model, fisher = shake(attached(base, LORA)), information(base)
    anchor = opened(model, fisher if form == "ewc" else None, form=form, weight=3.0)
    found = [gradient.clone() for gradient in pull(anchor, model)]
    value = torch.zeros(())
    for name, layer in model.get_base_model().named_modules():
        if hasattr(layer, "lora_A"):
            change = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * 2.0  # alpha / rank
            value = value + (change.square() * (fisher(f"{name}.weight") if form == "ewc" else 1)).sum()
    assert close(found, gradient_of(1.5 * value, model))


def test_lora_s_change_is_never_made_whole(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora.layer import Linear

    model = shake(attached(base, LORA))
    anchor = opened(model)
    monkeypatch.delattr(Linear, "get_delta_weight")
    assert square(anchor, model) > 0


@pytest.mark.parametrize(
    "method", [*METHODS.values(), Peft(type="ia3"), Peft(type="prompt_tuning", num_virtual_tokens=3)]
)
def test_the_own_parameters_are_held_at_their_start(base: Base, method: Method) -> None:
    model = attached(base, method)
    anchor = opened(model, of="parameters")
    assert square(anchor, model) == 0
    before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    shake(model)
    after = [p.detach() for p in model.parameters() if p.requires_grad]
    expected = sum(float((a - b).double().square().sum()) for a, b in zip(after, before, strict=True))
    assert square(anchor, model) == pytest.approx(expected, rel=1e-5)
    assert expected > 0


class TestDecoupled:
    @pytest.mark.parametrize("method", ["full", "fish"])
    def test_one_step_by_hand(self, base: Base, method: str) -> None:
        model, fisher = attached(base, METHODS[method]), information(base)
        anchor = opened(model, fisher, form="ewc", weight=4.0, decoupled=True)
        start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        shake(model)
        moved = {name: p.detach().clone() for name, p in model.named_parameters()}
        assert anchor.penalty(model) is None
        anchor.after_step(model, [{"params": list(model.parameters()), "lr": 0.1}])
        for change in anchor.changes:
            name, found = change.name, model.get_parameter(change.name)  # type: ignore[union-attr]
            expected = moved[name] - 0.1 * 4.0 * change.fisher * (moved[name] - start[name])
            assert torch.allclose(found, expected, atol=1e-7)
            assert not torch.equal(found, moved[name])

    def test_a_step_of_gradient_descent_is_the_coupled_one_but_for_where_the_pull_starts(self, base: Base) -> None:
        """theta - lr (g + w d) against theta' - lr w d', theta' = theta - lr g: they differ by lr^2 w g."""
        ends = []
        for decoupled in (False, True):
            model = attached(base, Full())
            anchor = opened(model, weight=2.0, decoupled=decoupled)
            optimizer = torch.optim.SGD(shake(model).parameters(), lr=0.1)
            task = model.model.norm.weight.square().sum()
            penalty = anchor.penalty(model)
            (task if penalty is None else task + penalty).backward()
            optimizer.step()
            anchor.after_step(model, optimizer.param_groups)
            ends.append(model)
        coupled, decoupled_ = (model.model.norm.weight.detach() for model in ends)
        gradient = 2 * shake(attached(base, Full())).model.norm.weight.detach()
        assert torch.allclose(decoupled_ - coupled, 0.1**2 * 2.0 * gradient, atol=1e-6)
        one, other = (model.model.embed_tokens.weight for model in ends)  # which the task does not move
        assert torch.allclose(one, other, atol=1e-7)

    def test_adamw_scales_the_coupled_pull_away(self, base: Base) -> None:
        """Far from the base every coupled step is as long as the learning rate, whatever the weight."""
        steps: dict[tuple[bool, float], float] = {}
        for decoupled in (False, True):
            for weight in (0.1, 1.0):
                model = attached(base, Full())
                anchor = opened(model, weight=weight, decoupled=decoupled)
                optimizer = torch.optim.AdamW(shake(model).parameters(), lr=1e-3, weight_decay=0.0)
                before = model.model.norm.weight.detach().clone()
                penalty = anchor.penalty(model)
                (0 * model.model.norm.weight.sum() + (0 if penalty is None else penalty)).backward()
                optimizer.step()
                anchor.after_step(model, optimizer.param_groups)
                steps[decoupled, weight] = float((model.model.norm.weight.detach() - before).norm())
        assert steps[False, 0.1] == pytest.approx(steps[False, 1.0], rel=1e-3)
        assert steps[True, 1.0] == pytest.approx(10 * steps[True, 0.1], rel=1e-2)

    def test_at_the_start_it_moves_no_bit_and_never_goes_past_it(self, base: Base) -> None:
        model = attached(base, Full())
        anchor = opened(model, weight=1e6, decoupled=True)
        groups = [{"params": list(model.parameters()), "lr": 1.0}]
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        anchor.after_step(model, groups)
        assert all(torch.equal(start[name], p) for name, p in model.named_parameters())
        anchor.after_step(shake(model), groups)
        assert all(torch.allclose(start[name], p, atol=1e-7) for name, p in model.named_parameters())

    def test_each_group_has_its_own_rate(self, base: Base) -> None:
        model = attached(base, LORA)
        anchor = opened(model, weight=1.0, of="parameters", decoupled=True)
        trained = [p for p in model.parameters() if p.requires_grad]
        start = [p.detach().clone() for p in trained]
        shake(model)
        anchor.after_step(model, [{"params": trained[:2], "lr": 1.0}, {"params": trained[2:], "lr": 0.0}])
        back = [torch.allclose(p, before, atol=1e-7) for p, before in zip(trained, start, strict=True)]
        assert back == [True, True] + [False] * (len(trained) - 2)

    def test_what_an_adapter_computes_cannot_be_pulled(self, base: Base) -> None:
        with pytest.raises(UserError) as caught:
            opened(attached(base, LORA), decoupled=True)
        assert str(caught.value).startswith("runs.x.preserve.anchor.decoupled: got true, but model.layers.0.")
        assert str(caught.value).endswith("; allowed: false, or of: parameters")


def test_no_weight_is_no_anchor(base: Base) -> None:
    assert open_anchor(options(weight=0.0), attached(base, Full()), "x") is None


def test_sums_are_in_float32_whatever_the_weights_are_in(base: Base) -> None:
    """Ten thousand squares of 2^-12: in bfloat16 the sum would stop growing."""
    model = base.model().to(torch.bfloat16).requires_grad_(True)
    anchor = opened(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_().add_(1)
        for change in anchor.changes:
            change.start.fill_(1 + 2**-6)  # type: ignore[union-attr]
    total = anchor.square(model).detach()
    assert total.dtype == torch.float32
    assert float(total) == pytest.approx(sum(p.numel() for p in model.parameters()) * 2**-12, rel=1e-5)
    assert all(gradient.dtype == torch.bfloat16 for gradient in pull(anchor, model))


def test_autocast_does_not_make_it_coarser(base: Base) -> None:
    model = shake(attached(base, LORA))
    for fisher, form in ((None, "l2"), (information(base), "ewc")):
        anchor = opened(model, fisher, form=form)
        with torch.autocast("cpu", torch.bfloat16):
            inside = square(anchor, model)
        assert inside == square(anchor, model)


def test_a_teacher_s_weights_serve_as_the_start(base: Base, work: Path) -> None:
    teacher, model = base.model(), attached(base, Full())
    start = dict(teacher.named_parameters())
    anchor = open_anchor(options(), model, "x", start=start)
    assert anchor is not None
    assert all(change.start.data_ptr() == start[change.name].data_ptr() for change in anchor.changes)  # type: ignore[union-attr]
