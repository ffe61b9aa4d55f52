from __future__ import annotations

from typing import Any

import pytest
import torch

from knowtune.models.blocks import block_of, stacks_of

SMALL: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2}
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {  # kind of head, config, its stack of three blocks
    "llama": ("CausalLM", {**SMALL, "num_hidden_layers": 3}, "model.layers"),
    "gpt2": ("CausalLM", {"vocab_size": 50, "n_embd": 16, "n_layer": 3, "n_head": 2}, "transformer.h"),
    "mixtral": ("CausalLM", {**SMALL, **EXPERTS, "num_hidden_layers": 3}, "model.layers"),
    "mamba": ("CausalLM", {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3}, "backbone.layers"),
    "bert": ("SequenceClassification", {**SMALL, "num_hidden_layers": 3}, "bert.encoder.layer"),
    "distilbert": (
        "SequenceClassification",
        {"vocab_size": 50, "dim": 16, "hidden_dim": 32, "n_layers": 3, "n_heads": 2},
        "distilbert.transformer.layer",
    ),
}


def made(kind: str, head: str, config: dict[str, Any]) -> torch.nn.Module:
    import transformers

    with torch.device("meta"):
        auto: Any = getattr(transformers, f"AutoModelFor{head}")
        model: torch.nn.Module = auto.from_config(transformers.CONFIG_MAPPING[kind](**config))
        return model


@pytest.mark.parametrize("kind", MODELS)
def test_the_blocks_of_an_architecture(kind: str) -> None:
    head, config, stack = MODELS[kind]
    model = made(kind, head, config)
    stacks = stacks_of(model)
    assert stacks == {stack: 3}
    positions = {name: block_of(name, stacks) for name in model.state_dict()}
    assert {position for position in positions.values() if position[0]} == {(1, 3), (2, 3), (3, 3)}
    outside = {name.removesuffix(".weight").rpartition(".")[2] for name, at in positions.items() if at == (None, 0)}
    assert outside & {"embed_tokens", "wte", "embeddings", "word_embeddings"}
    assert not any(name.startswith(f"{stack}.") for name, at in positions.items() if at == (None, 0))


class Experts(torch.nn.Module):
    """Experts in lists of their own, more of them than there are blocks, and a list that is no stack."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(2)] * 5)
        self.trunk = torch.nn.Module()
        self.trunk.parts = torch.nn.ModuleList(
            [torch.nn.ModuleDict({"experts": torch.nn.ModuleList([torch.nn.Linear(8, 8)] * 7)}) for _ in range(2)]
        )


def test_experts_are_no_blocks_and_a_config_is_not_needed() -> None:
    stacks = stacks_of(Experts())
    assert stacks == {"trunk.parts": 2}
    assert block_of("trunk.parts.1.experts.6.weight", stacks) == (2, 2)
    assert block_of("norms.4.weight", stacks) == (None, 0)


def test_a_model_without_blocks_has_none() -> None:
    assert stacks_of(torch.nn.Linear(2, 2)) == {}


def test_layers_that_are_one_block_read_again_are_one() -> None:
    albert = {**SMALL, "embedding_size": 8, "num_hidden_layers": 12}
    assert stacks_of(made("albert", "SequenceClassification", albert)) == {"albert.encoder.albert_layer_groups": 1}
