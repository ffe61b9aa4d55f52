from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.lora import Lora
from knowtune.models.forward import forward
from knowtune.models.masks import Mask
from tests.unit.helpers import equal_states, fact_rows, state, train

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


def mask_of(base: Base, share: Callable[[str], float]) -> Mask:
    """Give a mask that has a share of every linear layer's first entries."""
    linear = {n: p for n, p in base.model().named_parameters() if n.endswith("_proj.weight")}
    return {name: torch.arange(int(share(name) * p.numel())) for name, p in linear.items()}


def ranks(model: Any) -> dict[str, tuple[int, float]]:
    """Give rank and scaling of every layer that is changed, by its path."""
    layers = model.base_model.model.named_modules()
    return {path: (m.r["default"], m.scaling["default"]) for path, m in layers if hasattr(m, "lora_A")}


def test_equal_shares_are_plain_lora_bit_for_bit(base: Base) -> None:
    states = []
    for masked in (False, True):
        torch.manual_seed(0)
        method = Lora(rank=3, alpha=6.0)
        mask = mask_of(base, lambda _: 0.25)
        states.append(state(method.attach_masked(base.model(), mask, None) if masked else method.attach(base.model())))
    assert equal_states(*states)


def test_ranks_and_modules_follow_the_mask(base: Base) -> None:
    shares = {"q_proj": 1.0, "k_proj": 0.5, "v_proj": 0.25, "o_proj": 0.125, "gate_proj": 0.5, "up_proj": 0.0}

    def share(name: str) -> float:
        return shares.get(name.split(".")[-2], 0.01)  # down_proj

    method = Lora(rank=8, alpha=12.0)
    found = ranks(method.attach_masked(base.model(), mask_of(base, share), None))
    sizes = {"q_proj": 128, "k_proj": 96, "v_proj": 96, "o_proj": 128, "gate_proj": 192, "up_proj": 192,
             "down_proj": 192}  # fmt: skip
    down = int(0.01 * 64 * 128) / (64 * 128)
    mean = sum(shares.get(name, down) * size for name, size in sizes.items()) / sum(sizes.values())
    expected = {name: round(8 * shares.get(name, down) / mean) for name in sizes}
    assert expected == {"q_proj": 26, "k_proj": 13, "v_proj": 7, "o_proj": 3, "gate_proj": 13, "up_proj": 0,
                        "down_proj": 0}  # fmt: skip
    assert {path.split(".")[-1]: rank for path, (rank, _) in found.items()} == {n: r for n, r in expected.items() if r}
    assert len(found) == 2 * 5
    assert {scaling for _, scaling in found.values()} == {1.5}


def test_about_as_much_is_trained_as_by_plain_lora(base: Base) -> None:
    share = dict(zip(mask_of(base, lambda _: 0.1), torch.linspace(0.05, 0.9, 14).tolist(), strict=True))
    method = Lora(rank=16, alpha=16.0)
    counts = [
        sum(p.numel() for p in model.parameters() if p.requires_grad)
        for model in (
            method.attach(base.model()),
            method.attach_masked(base.model(), mask_of(base, lambda name: share[name]), None),
        )
    ]
    assert counts[1] == pytest.approx(counts[0], rel=0.02)


def test_no_rank_exceeds_that_of_the_weight(base: Base) -> None:
    mask = mask_of(base, lambda name: float(name == "model.layers.1.self_attn.q_proj.weight"))
    found = ranks(Lora(rank=16, alpha=16.0).attach_masked(base.model(), mask, None))
    assert found == {"model.layers.1.self_attn.q_proj": (64, 1.0)}


def test_modules_that_are_not_targets_stay_out(base: Base) -> None:
    method = Lora(rank=4, alpha=4.0, target_modules=["q_proj", "v_proj"])
    found = ranks(method.attach_masked(base.model(), mask_of(base, lambda _: 0.5), None))
    assert found == {f"model.layers.{i}.self_attn.{name}": (4, 1.0) for i in (0, 1) for name in ("q_proj", "v_proj")}


def test_a_mask_without_an_entry_of_a_target(base: Base) -> None:
    with pytest.raises(UserError) as caught:
        Lora(rank=4, alpha=4.0).attach_masked(base.model(), {"model.norm.weight": torch.arange(3)}, None)
    assert str(caught.value) == (
        "the mask has no entry of the 14 modules that target_modules names, e.g. "
        "model.layers.0.self_attn.q_proj; use a selection with a wider pattern"
    )


def test_a_mask_of_an_adapter_is_not_loras(base: Base, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^lora: the mask is of an adapter that the selection hands on; use method fish"
    ):
        Lora(rank=4, alpha=4.0).attach_masked(base.model(), {}, tmp_path)


def test_a_classifiers_head_is_trained_whatever_the_mask_says(encoder: Base) -> None:
    linear = [n for n, p in encoder.model().named_parameters() if ".layer.1." in n and p.ndim == 2]
    model = Lora(rank=2, alpha=2.0).attach_masked(encoder.model(), {name: torch.arange(9) for name in linear}, None)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("modules_to_save" in name or ".layer.1." in name for name in trained)
    assert any("classifier" in name for name in trained)


def test_plain_peft_loads_what_a_mask_made(base: Base, work: Path) -> None:
    method = Lora(rank=2, alpha=4.0)
    mask = mask_of(base, lambda name: 0.75 if ".0.mlp." in name else 0.25 * ("q_proj" in name))
    model = train(base, method, fact_rows().head(8), work, model=base.model(), mask=mask).model
    method.save(model, work / "saved")
    with torch.inference_mode():
        plain = PeftModel.from_pretrained(base.model(), work / "saved").eval()
        assert torch.equal(forward(plain, IDS), forward(model, IDS))
        assert not torch.equal(forward(plain, IDS), forward(base.model(), IDS))
    assert ranks(plain) == ranks(model)


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
