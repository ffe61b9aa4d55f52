"""Sums of an interrupted pass over examples, written and read."""

from __future__ import annotations

from pathlib import Path

import torch

from knowtune.common.errors import UserError
from knowtune.common.files import whole


def save_partial(partial: Path, state: dict[str, torch.Tensor], done: int) -> None:
    """Write sums and the number of batches in them, whole or not at all."""
    from safetensors.torch import save_file

    partial.parent.mkdir(parents=True, exist_ok=True)
    with whole(partial) as part:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, part, {"done": str(done)})


def load_partial(partial: Path | None, state: dict[str, torch.Tensor]) -> int:
    """Read sums of an interrupted pass into `state`; return how many batches are in them."""
    if partial is None or not partial.is_file():
        return 0
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(partial, framework="pt") as file:
            for name, total in state.items():
                total.copy_(file.get_tensor(name))
            return int(file.metadata()["done"])
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise UserError(f"{partial}: not readable ({error}); remove it, and the scoring starts again") from error
