"""Find the checkpoint that a training goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from transformers.trainer_utils import get_last_checkpoint

from knowtune.common.files import read_json

if TYPE_CHECKING:
    from knowtune.training.reweighting import Reweighting


def last_checkpoint(checkpoints: Path, reweighting: Reweighting | None) -> Path | None:
    """Return the last whole checkpoint, None where there is none.

    Args:
        checkpoints: the folder of checkpoints; broken ones (killed, disk full) are removed, the ones before them are
            still there.
        reweighting: whose state a checkpoint must have too.
    """
    for folder in checkpoints.glob("checkpoint-*"):
        try:
            read_json(folder / "trainer_state.json")  # the Trainer writes it last
            if reweighting is not None:
                reweighting.read(folder)
        except (OSError, ValueError, SafetensorError):
            shutil.rmtree(folder, ignore_errors=True)  # several processes may try
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    return Path(last) if last else None
