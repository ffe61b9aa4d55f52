"""A record of what a trained model computes in memory, to which the model on disk is held later.

Training and merging are stages of their own, so training leaves a record: what the trained model, still in memory,
computes for a few of its rows. At the last positions of each row: the logits of a few outputs and the logsumexp
over all of them, so that the file stays small whatever the vocabulary and the rows' length.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.errors import UserError
from knowtune.common.files import read_tensors, whole
from knowtune.models.checkpoint_files import first_line
from knowtune.models.forward import logits_of
from knowtune.models.prompt_mask import prompt_option

if TYPE_CHECKING:
    from knowtune.tasks.base import Task

RECORD = "outputs.safetensors"  # beside every trained seed
NUM_ROWS, MAX_TOKENS, NUM_POSITIONS, NUM_OUTPUTS = 8, 128, 8, 64


@torch.inference_mode()
def record_outputs(model: torch.nn.Module, task: Task, encoded: Sequence[Any], folder: Path) -> None:
    """Write the logits of a trained model for some of its rows.

    Args:
        model: in evaluation mode.
        task: makes inputs of rows.
        encoded: the rows it was trained on; some are taken at even distances, of those of up to `MAX_TOKENS` where
            there are any; else they are cut.
        folder: of the trained seed.
    """
    from safetensors.torch import save_file

    short = [row for row in encoded if len(row.input_ids) <= MAX_TOKENS] or list(encoded)
    chosen = [short[i] for i in _spread(len(short), NUM_ROWS)]
    inputs = task.inputs(chosen)
    inputs |= prompt_option(model, task.objective.targets(chosen), inputs["attention_mask"])
    inputs = {name: tensor[:, :MAX_TOKENS].contiguous() for name, tensor in inputs.items()}
    rows = [_last_logits(model, inputs, row) for row in range(len(inputs["input_ids"]))]
    logits = torch.cat([logits for logits, _ in rows])  # (position, output)
    outputs = torch.tensor(sorted({*_spread(logits.shape[1], NUM_OUTPUTS), *(i for _, ids in rows for i in ids)}))
    record = {"outputs": outputs, "logits": logits[:, outputs], "logsumexp": logits.logsumexp(-1)}
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / RECORD) as part:
        save_file({**record, **{f"inputs.{name}": tensor for name, tensor in inputs.items()}}, part)


@torch.inference_mode()
def recorded_difference(model: torch.nn.Module, folder: Path) -> tuple[float, float]:
    """Compare a model with the record of a trained seed.

    Args:
        model: in evaluation mode.
        folder: of the trained seed.

    Returns:
        The largest absolute difference of logits, and the largest recorded logit: its scale.

    Raises:
        UserError: there is no record, or it is of another model.
    """
    path = folder / RECORD
    saved = read_tensors(path, ("outputs", "logits", "logsumexp", "inputs.input_ids", "inputs.attention_mask"), "train")
    inputs = {name.removeprefix("inputs."): tensor for name, tensor in saved.items() if name.startswith("inputs.")}
    try:
        logits = torch.cat([_last_logits(model, inputs, row)[0] for row in range(len(inputs["input_ids"]))])
    except Exception as error:  # whatever a record, or an option of an adapter, that is not as it should be leads to
        reason = f"cannot be computed on {RECORD} ({first_line(error)})"
        raise UserError(f"{folder}: {reason}; run the train stage again") from error
    try:
        here = torch.cat([logits[:, saved["outputs"]], logits.logsumexp(-1, keepdim=True)], 1)
        there = torch.cat([saved["logits"], saved["logsumexp"].unsqueeze(1)], 1)
        differences = (here - there).abs()
    except (RuntimeError, LookupError) as error:
        raise UserError(f"{path}: a record of another model; run the train stage again") from error
    return float(differences.max()), float(there.abs().max())


def _last_logits(model: torch.nn.Module, inputs: dict[str, torch.Tensor], row: int) -> tuple[torch.Tensor, list[int]]:
    """Run one row alone, without padding.

    Returns:
        Its last logits, or a head's only ones  # (position, output), float32; and the tokens at these positions.
    """
    length = int(inputs["attention_mask"][row].sum())
    alone = {name: tensor[row : row + 1, :length] for name, tensor in inputs.items()}
    logits = logits_of(model, alone)
    if logits.ndim == 2:
        return logits, []
    return logits[0, -NUM_POSITIONS:], alone["input_ids"][0, -NUM_POSITIONS:].tolist()


def _spread(size: int, num: int) -> list[int]:
    """Give up to `num` whole numbers below `size`, at even distances."""
    return sorted({i * size // min(num, size) for i in range(min(num, size))})
