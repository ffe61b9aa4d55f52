from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError

from knowtune.checkpoints.base import Base
from knowtune.methods.lora import Lora
from knowtune.models.forward import forward
from tests.unit.helpers import fact_rows, train

IDS = [[1, 5, 9, 30, 200], [7, 8]]


def test_options_become_pefts(base: Base) -> None:
    model = Lora(rank=3, alpha=6.0, dropout=0.25, target_modules=["q_proj"]).attach(base.model())
    config = model.peft_config["default"]  # type: ignore[union-attr, index]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 6.0, 0.25)
    assert config.target_modules == {"q_proj"}
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * 3 * (64 + 64)


def test_by_default_every_linear_layer_is_adapted(base: Base) -> None:
    model = Lora(rank=1, alpha=1.0).attach(base.model())
    adapted = {n.split(".")[-4] for n, p in model.named_parameters() if p.requires_grad}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_a_fresh_adapter_changes_nothing_and_follows_the_global_seed(base: Base) -> None:
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = Lora(rank=2, alpha=4.0).attach(base.model()).eval()
        with torch.inference_mode():
            assert torch.equal(forward(model, IDS), forward(base.model(), IDS))
        found.append(torch.cat([p.flatten() for p in model.parameters() if p.requires_grad]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_folded_weight_is_the_equation(base: Base, work: Path) -> None:
    method = Lora(rank=2, alpha=6.0)
    model = train(base, method, fact_rows().head(8), work).model
    layer = model.base_model.model.model.layers[1].mlp.down_proj  # type: ignore[union-attr]
    a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    origin = base.model().model.layers[1].mlp.down_proj.weight.detach()
    assert b.abs().max() > 0
    folded = method.fold(model).model.layers[1].mlp.down_proj.weight
    assert torch.allclose(folded, origin + 6.0 / 2 * b @ a, atol=1e-6)


def test_plain_peft_loads_what_was_saved(base: Base, work: Path) -> None:
    method = Lora(rank=2, alpha=4.0)
    model = train(base, method, fact_rows().head(8), work).model
    method.save(model, work / "saved")
    assert sorted(p.name for p in (work / "saved").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert json.loads((work / "saved" / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    with torch.inference_mode():
        plain = PeftModel.from_pretrained(base.model(), work / "saved").eval()
        assert torch.equal(forward(plain, IDS), forward(model, IDS))


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 0, "alpha": 1.0},
        {"rank": 4097, "alpha": 1.0},
        {"rank": 1, "alpha": 0.0},
        {"rank": 1, "alpha": 1.0, "dropout": 1.0},
        {"rank": 1.5, "alpha": 1.0},
        {"alpha": 1.0},
        {"rank": 1},
        {"rank": 1, "alpha": 1.0, "target_modules": 3},
    ],
)
def test_bounds(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Lora(**options)  # type: ignore[arg-type]
