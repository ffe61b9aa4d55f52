"""Tiny models with a KaSA adapter, and what a trained one looks like."""

from __future__ import annotations

import copy
from typing import Any

import torch

from knowtune.methods.peft_warnings import quiet_peft
from tests.unit.methods.fish.tuner.models import gpt2, llama, logits_of, loss_of

__all__ = ["Layers", "attach", "gpt2", "llama", "logits_of", "loss_of", "plain_weights", "shake", "truncated"]


class Layers(torch.nn.Module):
    """A tall, a wide and a square linear layer."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.tall = torch.nn.Linear(8, 20)
        self.square = torch.nn.Linear(20, 20, bias=False)
        self.wide = torch.nn.Linear(20, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wide(torch.tanh(self.square(torch.tanh(self.tall(x)))))


def attach(model: Any, rank: int = 3, targets: Any = "all-linear", **options: Any) -> Any:
    """Attach by PEFT; to `Layers` by the names of its layers."""
    from peft import KasaConfig, LoraConfig, get_peft_model

    if isinstance(model, Layers) and targets == "all-linear":
        targets = ["tall", "square", "wide"]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, kasa_config=KasaConfig(), **options)
    with quiet_peft():
        return get_peft_model(model, config).eval()


def shake(model: Any, seed: int = 0) -> Any:
    """Move what is trained away from its start, as a training does."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return model


def truncated(model: Any, rank: int, targets: tuple[str, ...] = ("",)) -> Any:
    """A plain copy of a model, whose linear layers lack their smallest singular values, by a whole decomposition."""
    from transformers.pytorch_utils import Conv1D

    model = copy.deepcopy(model)
    for path, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear | Conv1D) and path != "lm_head" and path.endswith(targets):
            left, values, right = torch.linalg.svd(layer.weight.detach().double(), full_matrices=False)
            values[-rank:] = 0
            layer.weight.data = ((left * values) @ right).to(layer.weight.dtype)
    return model


def plain_weights(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the base's own weights, by the base's names."""
    own = {name: tensor for name, tensor in model.state_dict().items() if ".lora_" not in name}
    return {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): t.detach().clone() for name, t in own.items()
    }
