"""Tiny models of several kinds, of weights large enough that a text before the input shows."""

from __future__ import annotations

from typing import Any

import torch

TEXT = [3, 9, 4, 17, 6]  # tokens of the text
IDS = torch.tensor([[5, 9, 12, 7, 1, 8], [11, 5, 2, 8, 6, 13]])
SIZES: dict[str, Any] = {
    "vocab_size": 24,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def built(name: str, **options: Any) -> Any:
    import transformers

    kind = getattr(transformers, name)
    torch.manual_seed(0)
    return kind(kind.config_class(**options)).eval()


def llama(kind: str = "CausalLM", **options: Any) -> Any:
    return built(f"LlamaFor{kind}", **{**SIZES, "num_key_value_heads": 2, **options})


def mistral(kind: str = "CausalLM") -> Any:
    return built(f"MistralFor{kind}", **SIZES, num_key_value_heads=2, sliding_window=7)


def gpt2(name: str = "GPT2LMHeadModel") -> Any:
    rates = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
    sizes = {"vocab_size": 24, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, "initializer_range": 0.3}
    return built(name, **sizes, **rates, bos_token_id=1, eos_token_id=2, pad_token_id=0)


def bert(kind: str = "SequenceClassification", **options: Any) -> Any:
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return built(f"BertFor{kind}", **SIZES, **rates, max_position_embeddings=32, **options)


def roberta(kind: str = "SequenceClassification", family: str = "Roberta", **options: Any) -> Any:
    """Positions begin after the rows of padding, at 2, so that 34 rows have room for 32 tokens."""
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes = {**SIZES, "pad_token_id": 1, "bos_token_id": 0, "max_position_embeddings": 34}
    return built(f"{family}For{kind}", **{**sizes, **rates, **options})


def deepseek() -> Any:
    """It keeps one head: 8 numbers of a token in the place of keys, 4 in that of values."""
    keys = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}
    experts = {"n_routed_experts": 2, "num_experts_per_tok": 1, "n_group": 1, "topk_group": 1}
    sizes = {"num_key_value_heads": 4, "moe_intermediate_size": 8, "first_k_dense_replace": 2}
    return built("DeepseekV3ForCausalLM", **SIZES, **keys, **experts, **sizes)


def llama4() -> Any:
    sizes = {"num_key_value_heads": 2, "head_dim": 4, "intermediate_size_mlp": 24, "num_local_experts": 2}
    return built("Llama4ForCausalLM", **SIZES, **sizes)


def token_classifier(family: str, **options: Any) -> Any:
    """An encoder, whose token of padding is 1 as in RoBERTa."""
    return built(f"{family}ForTokenClassification", **{**SIZES, "pad_token_id": 1, **options})


CAUSAL = {"llama": llama, "mistral": mistral, "gpt2": gpt2, "deepseek": deepseek, "llama4": llama4}
GREEDY: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
WAYS = [(variant, form) for variant in ("prefix", "prompt") for form in ("paper", "released")]


def task_of(model: Any) -> str | None:
    name = type(model).__name__
    kinds = {"SequenceClassification": "SEQ_CLS", "TokenClassification": "TOKEN_CLS", "LM": "CAUSAL_LM"}
    return next((task for part, task in kinds.items() if part in name), None)


def attach(model: Any, **options: Any) -> Any:
    from peft import get_peft_model

    from knowtune import SkTuningConfig

    given = {"token_ids": list(TEXT), "task_type": task_of(model), **options}
    return get_peft_model(model, SkTuningConfig(**given)).eval()


def moved(model: Any, scale: float = 0.3) -> Any:
    """Change what is trained, as a training would."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += scale * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return model


def with_text(ids: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.tensor([TEXT] * len(ids)), ids], 1)


def after_text(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """What a plain causal model gives for the input after the text."""
    with torch.no_grad():
        return model(with_text(ids)).logits[:, len(TEXT) :]


@torch.no_grad()
def logits_of(model: Any, ids: torch.Tensor = IDS, **options: Any) -> torch.Tensor:
    return model(input_ids=ids, **options).logits


def left_padded(ids: torch.Tensor, num: int, pad: int = 0) -> dict[str, torch.Tensor]:
    out = ids.new_zeros(len(ids), num)
    return {"input_ids": torch.cat([out + pad, ids], 1), "attention_mask": torch.cat([out, torch.ones_like(ids)], 1)}


def right_padded(ids: torch.Tensor, num: int, pad: int = 0) -> dict[str, torch.Tensor]:
    out = ids.new_zeros(len(ids), num)
    return {"input_ids": torch.cat([ids, out + pad], 1), "attention_mask": torch.cat([torch.ones_like(ids), out], 1)}


def as_options(padded: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"ids": padded["input_ids"], "attention_mask": padded["attention_mask"]}


def layer_of(model: Any) -> Any:
    from knowtune.methods.sk_tuning.tuner import SkTuningLayer

    return next(module for module in model.modules() if isinstance(module, SkTuningLayer))


def num_trained(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
