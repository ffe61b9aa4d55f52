"""Where a model is computed, and in which type of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from knowtune.common.errors import UserError


@dataclass(frozen=True)
class Compute:
    """Where and in which number format a model runs.

    Args:
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        dtype: "float32", "bfloat16" or "auto" (bfloat16 on a CUDA device that has it, else float32).
        quantize: "none" or "4bit" (bitsandbytes, CUDA only).
        threads: CPU threads; the last bits of a sum depend on it.
    """

    device: str = "cpu"
    dtype: str = "float32"
    quantize: str = "none"
    threads: int = 2

    def resolved_device(self) -> str:
        """Return "cpu" or "cuda".

        Raises:
            UserError: `device` is "cuda", and there is none.
        """
        import torch

        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "params.yaml: compute.device: got 'cuda', but torch sees no CUDA device; use 'auto' or 'cpu'"
            )
        return self.device

    def resolved_dtype(self) -> Any:
        """Return the torch dtype of the base's weights."""
        import torch

        name = self.dtype
        if name == "auto":
            fast = self.resolved_device() == "cuda" and torch.cuda.is_bf16_supported()
            name = "bfloat16" if fast else "float32"
        return getattr(torch, name)


def _four_bit(compute: Compute) -> Any:
    """Make the 4-bit setting, or say what is missing."""
    import importlib.util

    from transformers import BitsAndBytesConfig

    if compute.resolved_device() != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "params.yaml: compute.quantize: got '4bit', which needs CUDA and the extra: make extra NAME=quantized"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute.resolved_dtype()
    )
