"""What PEFT's own tests ask of a tuner and found wanting here once; all of them: `make peft-conformance`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn

from knowtune import FishConfig
from knowtune.methods.fish.tuner.copies import shadow
from knowtune.methods.fish.tuner.layer import FishLayer
from knowtune.methods.fish.tuner.values import features


def attached(**options: Any) -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    return get_peft_model(model, config(**options))


def config(**options: Any) -> FishConfig:
    return FishConfig(
        **{"strategy": "random", "budget": 0.5, "target_modules": ["0"], "init_weights": False, **options}
    )


def layer(model: Any) -> FishLayer:
    return next(module for module in model.modules() if isinstance(module, FishLayer))


def test_deleting_an_inactive_adapter_keeps_what_is_merged() -> None:
    model = attached()
    model.add_adapter("other", config())
    model.set_adapter("other")
    model.merge_adapter()
    model.delete_adapter("default")
    assert layer(model).merged_adapters == model.active_adapters == ["other"]


def test_the_last_adapter_is_deleted_with_a_module_saved_whole() -> None:
    model = attached(modules_to_save=["1"])
    model.delete_adapter("default")
    assert model.active_adapters == [] and layer(model).active_adapters == []


def test_equal_configs_start_from_different_values() -> None:
    model = attached()
    model.add_adapter("other", config())
    values = layer(model).fish_values
    assert not torch.equal(values["default"], values["other"])


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(3, 2), (3, 2)),
        (nn.Conv2d(3, 2, 1), (3, 2)),
        (nn.Embedding(3, 2), (3, 2)),
        (nn.LayerNorm(3), (None, None)),
    ],
)
def test_layers_tell_their_features(module: nn.Module, expected: tuple[int | None, int | None]) -> None:
    assert features(module) == expected


def test_an_attribute_that_hides_a_parameter_is_changed_too() -> None:
    """As under FSDP, whose attributes a functional call does not see."""
    linear = nn.Linear(3, 2)
    hiding = linear.weight.detach().clone()
    vars(linear)["weight"] = hiding
    copies = {"weight": torch.zeros(2, 3), "bias": torch.ones(2)}
    with shadow(linear, copies) as named:
        assert list(named) == ["bias"]
        assert torch.func.functional_call(linear, named, (torch.ones(1, 3),)).tolist() == [[1.0, 1.0]]
    assert linear.weight is hiding
