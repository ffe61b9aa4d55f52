"""A trained adapter as PEFT's own PREFIX_TUNING or PROMPT_TUNING: what it puts before an input is constant by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from knowtune.common.errors import UserError
from knowtune.methods.sk_tuning.tuner.adapter import shapes_of
from knowtune.methods.sk_tuning.tuner.config import SkTuningConfig
from knowtune.methods.sk_tuning.tuner.layer import SkTuningLayer
from knowtune.methods.sk_tuning.tuner.reading import NAME, backbone_of


def export_adapter(model: Any, folder: Path | str, adapter_name: str = "default") -> None:
    """Write an adapter so that PEFT loads it without knowtune, and computes the same.

    PEFT gives logits of the prompt's positions as well, and counts positions over padding on the left, which its
    prompts can therefore not have; its decoders' classifiers read the last position after a prompt, padding or not.

    Args:
        model: with the adapter; left as it is.
        folder: where `adapter_config.json` and the weights go.
        adapter_name: which one.

    Raises:
        UserError: PEFT knows no such prefix or head.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    config: SkTuningConfig = model.peft_config[adapter_name]
    if config.pooling != "model":
        raise UserError(f"export: PEFT knows no pooling but the model's own; this adapter's is {config.pooling!r}")
    layer: SkTuningLayer = getattr(backbone_of(model.get_base_model()), NAME)
    training = layer.training
    with torch.no_grad():
        layer.eval()
        tensor, options = _prefix(layer, adapter_name) if config.variant == "prefix" else _prompt(layer, adapter_name)
        layer.train(training)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    heads = {
        name.replace("base_model.model.", "base_model.", 1): saved.detach().cpu().contiguous()
        for name, saved in get_peft_model_state_dict(model, adapter_name=adapter_name).items()
        if f".{NAME}." not in name
    }
    save_file({"prompt_embeddings": tensor.float().cpu().contiguous(), **heads}, folder / "adapter_model.safetensors")
    _plain_config(config, options).save_pretrained(str(folder))


def _prefix(layer: SkTuningLayer, adapter_name: str) -> tuple[torch.Tensor, dict[str, int]]:
    """Lay keys and values of all layers side by side, as PEFT has them  # (text, layers x 2 x heads x head width)."""
    states = layer.prefix(adapter_name)
    shapes = {shape for pair in shapes_of(states) for shape in pair or (None,)}
    if len(shapes) != 1:
        raise UserError(
            "export: PEFT's prefixes are for models whose layers all have keys and values of one shape; keep the "
            "adapter in its own form"
        )
    parts = torch.stack([part[0].transpose(0, 1) for state in states if state for part in state], 1)
    text, _, heads, width = parts.shape  # (text, layers x 2, heads, head width)
    options = {"num_layers": len(states), "num_attention_heads": heads, "token_dim": heads * width}
    return parts.reshape(text, -1), options


def _prompt(layer: SkTuningLayer, adapter_name: str) -> tuple[torch.Tensor, dict[str, int]]:
    prompt = layer.prompt(adapter_name)  # (text, hidden)
    return prompt, {"token_dim": prompt.shape[1]}


def _plain_config(config: SkTuningConfig, options: dict[str, int]) -> Any:
    from peft import PrefixTuningConfig, PromptTuningConfig

    kind: Any = PrefixTuningConfig if config.variant == "prefix" else PromptTuningConfig
    return kind(
        task_type=config.task_type,
        base_model_name_or_path=config.base_model_name_or_path,
        modules_to_save=config.modules_to_save,
        num_virtual_tokens=config.num_virtual_tokens,
        num_transformer_submodules=1,
        inference_mode=True,
        **options,
    )
