from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.peft_adapters import (
    attach_adapter,
    fold_adapter,
    load_adapter,
    save_adapter,
)
from knowtune.models.forward import forward

IDS = [[1, 5, 9, 30, 200], [7, 8]]


def lora(**options: object) -> LoraConfig:
    return LoraConfig(task_type="CAUSAL_LM", r=2, **{"target_modules": "all-linear", **options})  # type: ignore[arg-type]


def moved(model: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def test_saved_loaded_and_folded(base: Base, tmp_path: Path) -> None:
    model = moved(attach_adapter(base.model(), lora()))
    save_adapter(model, tmp_path / "a")
    with torch.inference_mode():
        expected = forward(model, IDS)
        loaded = load_adapter(base.model(), tmp_path / "a")
        assert not loaded.training
        assert torch.equal(forward(loaded, IDS), expected)
        assert (forward(fold_adapter(loaded), IDS) - expected).abs().max() < 1e-4
        assert (expected - forward(base.model(), IDS)).abs().max() > 1e-2


def test_what_a_saved_adapter_holds(base: Base, tmp_path: Path) -> None:
    model = attach_adapter(base.model(), lora(target_modules=["v_proj", "q_proj", "down_proj", "o_proj"]))
    save_adapter(model, tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    text = (tmp_path / "a" / "adapter_config.json").read_text()
    config = json.loads(text)
    assert config["base_model_name_or_path"] is None
    assert config["revision"] is None
    assert config["target_modules"] == ["down_proj", "o_proj", "q_proj", "v_proj"]
    assert str(base.folder) not in text
    assert list(config) == sorted(config)
    assert text.endswith("}\n")


def test_saving_twice_gives_equal_bytes(base: Base, tmp_path: Path) -> None:
    model = moved(attach_adapter(base.model(), lora()))
    for name in ("a", "b"):
        save_adapter(model, tmp_path / name)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_lists_keep_their_order(base: Base, tmp_path: Path) -> None:
    save_adapter(attach_adapter(base.model(), lora(layers_to_transform=[1, 0], target_modules=["q_proj"])), tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["layers_to_transform"] == [1, 0]


def test_an_adapter_that_peft_cannot_attach(base: Base) -> None:
    with pytest.raises(UserError, match=r"^PEFT cannot attach .*LORA: .*no_such_layer"):
        attach_adapter(base.model(), lora(target_modules=["no_such_layer"]))


# PEFT says so too, as a warning; a warning does not stop a run.
@pytest.mark.filterwarnings("ignore:Adapter 'default'. 1 LoRA tensor.s. have invalid shape")
def test_an_empty_adapter_is_not_kept(base: Base, tmp_path: Path) -> None:
    model = attach_adapter(base.model(), lora(target_modules=["q_proj"]))
    weight = model.base_model.model.model.layers[0].self_attn.q_proj.lora_A["default"].weight  # type: ignore[union-attr]
    weight.data = torch.empty(0, 64)
    with pytest.raises(UserError) as caught:
        save_adapter(model, tmp_path / "a")
    assert str(caught.value) == (
        f"{tmp_path / 'a'}: the saved adapter is empty "
        "(base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight); not kept"
    )


def test_weights_that_are_not_finite_are_not_folded(base: Base) -> None:
    model = attach_adapter(base.model(), lora())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(torch.nan)
    with pytest.raises(UserError, match="finite"):
        fold_adapter(model)
