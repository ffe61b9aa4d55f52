from __future__ import annotations

from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.methods.fish.method import Fish
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.methods.peft import REFUSED, Peft
from knowtune.methods.peft_adapters import save_adapter
from knowtune.preserve.teacher import AdapterOff, FrozenCopy, adapter_off, choose_teacher, first_outputs
from tests.unit.helpers import fact_rows, state
from tests.unit.methods.test_peft import TYPES, made, with_warnings

ATTENTION = ["q_proj", "v_proj"]
LORA = Lora(rank=2, alpha=4.0, dropout=0.1)
VARIANTS = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "kasa": {"kasa_config": {}},  # the base is not truncated for good, as by PEFT's own
    "saved whole": {"modules_to_save": ["norm"]},
    "orthogonal": {"init_lora_weights": "orthogonal"},
}
CHANGES = {  # the base's own weights
    "full": Full(),
    "pissa": Peft(type="lora", r=2, target_modules=ATTENTION, init_lora_weights="pissa"),
    "olora": Peft(type="lora", r=2, target_modules=ATTENTION, init_lora_weights="olora"),
}


def inputs_of(base: Base) -> dict[str, torch.Tensor]:
    return base.task.inputs(base.task.encode(base.tokenizer(), fact_rows().head(3)))


def chosen(base: Base, attach: Any) -> tuple[Any, Any, torch.Tensor]:
    model = base.model()
    pristine = first_outputs(model, inputs_of(base)).detach()
    attached = attach(model)
    return choose_teacher(attached, base, inputs_of(base), pristine), attached, pristine


def shaken(model: Any) -> None:
    """Move what is trained, as training does."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)


def require_left_alone(teacher: Any, model: Any, base: Base, pristine: torch.Tensor) -> None:
    """The teacher gives the base's logits beside a trained model, and leaves no trace in it."""
    shaken(model.train())
    flags, before, drawn = [p.requires_grad for p in model.parameters()], state(model), torch.get_rng_state()
    modes = [module.training for module in model.modules()]
    logits = teacher(model, inputs_of(base)).logits
    assert torch.equal(logits, pristine)
    assert not logits.requires_grad
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(model).items())
    assert torch.equal(torch.get_rng_state(), drawn)
    now = first_outputs(model, inputs_of(base))[:, -pristine.shape[1] :]
    assert not torch.allclose(now, pristine, atol=1e-3)


@pytest.mark.parametrize("name", [with_warnings(name) for name in TYPES if name not in REFUSED])
def test_the_base_stands_beside_every_type(base: Base, name: str, work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(work))  # boft tries to build one
    teacher, model, pristine = chosen(base, made(name).attach)
    assert isinstance(teacher, AdapterOff)
    require_left_alone(teacher, model, base, pristine)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_lora_are_switched_off(base: Base, name: str) -> None:
    method = Peft(type="lora", r=2, target_modules=ATTENTION, **VARIANTS[name])
    teacher, model, pristine = chosen(base, method.attach)
    assert isinstance(teacher, AdapterOff)
    require_left_alone(teacher, model, base, pristine)


@pytest.mark.parametrize("name", CHANGES)
def test_a_method_that_changes_the_base_needs_a_copy(base: Base, name: str) -> None:
    teacher, model, pristine = chosen(base, CHANGES[name].attach)
    assert isinstance(teacher, FrozenCopy)
    require_left_alone(teacher, model, base, pristine)


def test_a_fish_mask_is_switched_off_and_an_adapters_mask_stays(base: Base, tmp_path: Any) -> None:
    mask = {"model.layers.0.mlp.up_proj.weight": torch.arange(0, 500, 7)}
    teacher, model, pristine = chosen(base, lambda plain: Fish().attach_masked(plain, mask, None))
    assert isinstance(teacher, AdapterOff)
    require_left_alone(teacher, model, base, pristine)
    adapter = LORA.attach(base.model())
    shaken(adapter)
    save_adapter(adapter, tmp_path)
    name = next(name for name, p in adapter.named_parameters() if p.requires_grad)
    masked = {name: torch.arange(5)}
    teacher, model, pristine = chosen(base, lambda plain: Fish().attach_masked(plain, masked, tmp_path))
    assert isinstance(teacher, AdapterOff)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 5
    require_left_alone(teacher, model, base, pristine)


def test_what_is_trained_without_the_adapter_needs_a_copy(base: Base) -> None:
    """As with `bias: all`: with the adapter off the model is the base at first, and will not stay so."""

    def attach(plain: Any) -> Any:
        model = LORA.attach(plain)
        model.get_base_model().model.norm.weight.requires_grad_(True)  # type: ignore[operator]
        return model

    teacher, model, pristine = chosen(base, attach)
    assert isinstance(teacher, FrozenCopy)
    require_left_alone(teacher, model, base, pristine)


def test_flags_come_back_after_an_error(base: Base) -> None:
    model: Any = LORA.attach(base.model())
    next(p for p in model.parameters() if p.requires_grad).requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    with pytest.raises(RuntimeError, match="a reason"), adapter_off(model):
        raise RuntimeError("a reason")
    assert [p.requires_grad for p in model.parameters()] == flags
