"""What a gate does: its values at every token of a text."""

from __future__ import annotations

from typing import Any

import torch


@torch.inference_mode()
def read_gates(model: Any, **inputs: Any) -> torch.Tensor:
    """Return the gate at every token, 1 where the base is heard alone and 0 where the tuned model is.

    Args:
        model: a PEFT model with an IMSM adapter; left as it is.
        inputs: of its forward pass, `prompt_mask` or `labels` among them.

    Returns:
        float32  # (batch, seq, d)
    """
    layer = model.base_model.layer
    values: list[torch.Tensor] = []
    plain = layer.gate_of

    def keep(*args: Any) -> torch.Tensor:
        values.append(plain(*args))
        return values[-1]

    layer.gate_of = keep
    try:
        model(**inputs, use_cache=False)
    finally:
        del layer.gate_of
    return values[0]
