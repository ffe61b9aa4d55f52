"""Tiny models of several kinds, with fixed weights, and a batch for each."""

from __future__ import annotations

import copy
from typing import Any

import torch

IDS = torch.tensor([[3, 9, 4, 9, 1, 0, 7, 3], [5, 5, 2, 8, 6, 3, 0, 9]])
SIZES: dict[str, Any] = {"vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def llama(tied: bool = True, kind: str = "CausalLM", seed: int = 0, **options: Any) -> Any:
    import transformers

    config = transformers.LlamaConfig(
        **SIZES, intermediate_size=24, num_key_value_heads=1, tie_word_embeddings=tied, pad_token_id=0, **options
    )
    torch.manual_seed(seed)
    return getattr(transformers, f"LlamaFor{kind}")(config).eval()


def bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(**SIZES, intermediate_size=24, max_position_embeddings=16, pad_token_id=0)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    return BertForSequenceClassification(config).eval()


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=24, n_embd=16, n_layer=2, n_head=2, n_positions=16, bos_token_id=1, eos_token_id=2)
    config.embd_pdrop = config.attn_pdrop = config.resid_pdrop = 0.0
    return GPT2LMHeadModel(config).eval()


class Picture(torch.nn.Module):
    """Convolution, norm with statistics, attention of torch, a parameter of a list and one of its own in a module."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.body = Body()
        self.head = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.conv(x).flatten(2).transpose(1, 2)  # (batch, pixels, 4)
        return self.head(self.body(states).mean(1))


class Body(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = torch.nn.Parameter(torch.randn(1, 1, 4))
        self.scales = torch.nn.ParameterList([torch.randn(4), torch.randn(4)])
        self.experts = torch.nn.Parameter(torch.randn(2, 4, 4))
        self.attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = torch.nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.scales[0] + self.start
        x = self.attention(x, x, x, need_weights=False)[0] * self.scales[1]
        return self.norm(torch.einsum("bpi,eij->bpj", x, self.experts))


def loss_of(model: Any, scale: float = 1.0) -> torch.Tensor:
    """A loss of any of these models."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    if isinstance(plain, Picture):
        x = torch.linspace(-1, 1, 32).view(2, 1, 4, 4)
        return model(x).square().sum() * scale
    labels = torch.tensor([0, 1]) if "Classification" in type(plain).__name__ else IDS
    return model(input_ids=IDS, labels=labels).loss * scale


def logits_of(model: Any) -> torch.Tensor:
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    with torch.no_grad():
        if isinstance(plain, Picture):
            return model(torch.linspace(-1, 1, 32).view(2, 1, 4, 4))
        return model(input_ids=IDS).logits


def some_entries(model: torch.nn.Module, share: float = 0.2, seed: int = 0, skip: str = "score|classifier") -> Any:
    """A mask with some entries of every parameter but a head's."""
    import re

    generator = torch.Generator().manual_seed(seed)
    mask = {}
    for name, parameter in model.named_parameters():
        if re.search(skip, name):
            continue
        num = max(1, int(share * parameter.numel()))
        mask[name] = torch.randperm(parameter.numel(), generator=generator)[:num].sort().values
    return mask


def dense_gradients(model: Any, mask: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The gradients of a plain model, taken at a mask's entries."""
    plain = copy.deepcopy(model).requires_grad_(True)
    loss_of(plain).backward()
    return {n: p.grad.flatten()[mask[n]] for n, p in plain.named_parameters() if n in mask}


def attach(model: Any, mask: Any = None, **options: Any) -> Any:
    from peft import get_peft_model

    from knowtune import FishConfig

    return get_peft_model(model, FishConfig(mask=mask, **options))


def spread(model: Any, tensors: str = "values", adapter: str = "default") -> dict[str, torch.Tensor]:
    """Values (or their gradients) of an attached adapter by the base's parameter names, in the mask's order."""
    found = {}
    for path, layer in model.base_model.model.named_modules():
        if adapter not in getattr(layer, "fish_values", {}):
            continue
        values, indices = layer.fish_values[adapter], layer.fish_indices[adapter]
        values = values.grad if tensors == "gradients" else values.detach()
        begin = 0
        for within, end in layer.ends.items():
            here = (indices >= begin) & (indices < end)
            if here.any():
                found[f"{path}.{within}".replace(".base_layer.", ".")] = values[here]
            begin = end
    return found


def plain_state(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the base's own weights, by the base's names."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {
        name.replace("base_layer.", ""): tensor.detach().clone()
        for name, tensor in plain.named_parameters()
        if "fish_" not in name
    }
