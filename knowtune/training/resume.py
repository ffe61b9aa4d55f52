"""The checkpoint that a training goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from knowtune.common.files import read_json

if TYPE_CHECKING:
    from knowtune.training.reweighting import Reweighting


class SaveAfterValidation(TrainerCallback):
    """Lets a checkpoint that falls on the end of an epoch be saved after the validation, and not before.

    Else a training that is killed then, and goes on, lacks the epoch's validation loss; and the random numbers that
    the validation takes.
    """

    def __init__(self) -> None:
        """Begin with none that waits."""
        self._waits = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let it wait."""
        ends = float(state.epoch).is_integer() or state.global_step >= state.max_steps
        self._waits = bool(control.should_save) and ends
        control.should_save = control.should_save and not ends

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let it go on: the Trainer validates before it saves."""
        control.should_save = control.should_save or self._waits
        self._waits = False


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
