"""Tiny models with an IMSM adapter, and the two-copy reference that its authors' code is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from knowtune.methods.peft_warnings import quiet_peft
from tests.unit.methods.fish.tuner.models import some_entries
from tests.unit.methods.sk_tuning.tuner.models import built, gpt2, llama, mistral

IDS = torch.tensor([[5, 9, 12, 7, 1, 8, 4, 10], [11, 5, 2, 8, 6, 13, 3, 7]])
PROMPT = 5  # tokens of the prompt
LABELS = torch.where(torch.arange(8) < PROMPT, -100, IDS)
CAUSAL: dict[str, Callable[[], Any]] = {"llama": llama, "mistral": mistral, "gpt2": gpt2}


def gemma() -> Any:
    """A model whose logits are squashed after the head."""
    sizes = {"vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 4}
    return built(
        "Gemma2ForCausalLM", **sizes, intermediate_size=24, num_key_value_heads=2, initializer_range=0.3,
        final_logit_softcapping=2.0, pad_token_id=0, bos_token_id=1, eos_token_id=2, sliding_window=6,
    )  # fmt: skip


def biased() -> Any:
    """A model whose head has a bias."""
    model = llama()
    model.lm_head.bias = torch.nn.Parameter(torch.linspace(-1, 1, 24))
    return model


def inner_configs(model: Any) -> dict[str, Any]:
    """Name a config of each inner method."""
    import peft

    from knowtune import FishConfig, SkTuningConfig

    linear = {"target_modules": ["c_attn", "c_fc"] if "GPT2" in type(model).__name__ else "all-linear"}
    body = ["c_fc"] if "GPT2" in type(model).__name__ else ["v_proj", "down_proj"]
    ia3 = {"target_modules": body, "feedforward_modules": body[-1:]}
    text: dict[str, Any] = {"token_ids": [3, 9, 4]}
    return {  # OFT changes no Conv1D
        "lora": peft.LoraConfig(r=2, lora_alpha=4, **linear),
        "dora": peft.LoraConfig(r=2, lora_alpha=4, use_dora=True, **linear),
        "adalora": peft.AdaLoraConfig(init_r=3, target_r=2, total_step=10, tinit=1, tfinal=2, **linear),
        "ia3": peft.IA3Config(**ia3),
        "oft": peft.OFTConfig(r=0, oft_block_size=4, target_modules=["q_proj", "up_proj"]),
        "kasa": peft.LoraConfig(r=2, lora_alpha=4, kasa_config=peft.KasaConfig(), **linear),
        "fish": FishConfig(mask=some_entries(model, skip="lm_head|wte")),
        "prefix": SkTuningConfig(**text, task_type="CAUSAL_LM"),
        "prompt": SkTuningConfig(**text, variant="prompt", form="released", task_type="CAUSAL_LM"),
    }


INNERS = ("lora", "dora", "adalora", "ia3", "oft", "kasa", "fish", "prefix", "prompt")
# Those that compute as the base does, bit for bit, at their start.
IDENTITY = ("lora", "dora", "adalora", "ia3", "oft", "fish")

# Every inner method on Llama, and some on models that differ: a window, Conv1D with dropout and a bias.
PAIRS = [("llama", inner) for inner in INNERS]
PAIRS += [(name, inner) for name in ("mistral", "gpt2") for inner in ("lora", "kasa", "fish", "prefix")]


def weave(model: Any, inner: Any = "lora", **options: Any) -> Any:
    from peft import get_peft_model

    from knowtune import ImsmConfig

    config = inner_configs(model)[inner] if isinstance(inner, str) else inner
    torch.manual_seed(1)
    with quiet_peft():
        return get_peft_model(model, ImsmConfig(inner=config, task_type="CAUSAL_LM", **options)).eval()


def shake(model: Any, scale: float = 0.3, seed: int = 1) -> Any:
    """Change what is trained, as a training would."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += scale * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return model


def layer_of(model: Any) -> Any:
    return model.base_model.layer


def force(model: Any, value: float) -> Any:
    """Make the gate one number everywhere."""
    layer_of(model).gate_of = lambda run, frozen, tuned: torch.full_like(tuned, value)
    return model


@torch.no_grad()
def logits_of(model: Any, ids: torch.Tensor = IDS, **options: Any) -> torch.Tensor:
    return model(input_ids=ids, **options).logits


def plain_inner(model: Any) -> Any:
    """A copy with the inner adapter alone: what the tuned memory says."""
    return force(copy.deepcopy(model), 0.0)


def reference(
    base: Any, woven: Any, prompt: int, ids: torch.Tensor = IDS, mask: Any = None, positions: Any = None
) -> torch.Tensor:
    """What the paper's equations give, by two whole models; the query at every token is that of the answer.

    Args:
        base: the frozen model.
        woven: the model to compare with; its tuned memory and gate are read.
        prompt: tokens of the prompt, counted from the first column.
        ids: tokens, padding included.
        mask: 0 for padding.
        positions: of the tokens.
    """
    options = {} if mask is None else {"attention_mask": mask}
    if positions is not None:
        options["position_ids"] = positions
    decoder, kept = woven.base_model.model.get_decoder(), {}
    hook = decoder.register_forward_hook(lambda _, __, out: kept.update(tuned=out[0]), prepend=True)
    frozen = base.get_decoder()(ids, **options)[0].float()
    woven(input_ids=ids, **options)
    hook.remove()
    gate = layer_of(woven).imsm_gate["default"]
    tuned = kept["tuned"][:, -ids.shape[1] :].float()  # a prompt of virtual tokens stands first
    counted = (torch.arange(ids.shape[1]) < prompt)[None].expand(len(ids), -1)
    counted = (counted if mask is None else counted & mask.bool()).float()[..., None]
    means = [(states * counted).sum(1, keepdim=True) / counted.sum(1, keepdim=True) for states in (frozen, tuned)]
    means = [mean.expand_as(frozen) for mean in means]
    gates = torch.sigmoid(torch.cat([means[0], frozen, tuned, means[1]], -1) @ gate.down.weight.T @ gate.up.weight.T)
    return base.get_output_embeddings()(gates * frozen + (1 - gates) * tuned)
