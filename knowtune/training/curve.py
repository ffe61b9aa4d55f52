"""The curve of a training, and its progress where there is no terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

from transformers import TrainerCallback

EVERY = 10  # seconds between lines of progress
TERMS = ("replay", "distill", "anchor")
SPLITS = {"loss": "train", **{term: term for term in TERMS}, "eval_loss": "validation"}  # of what is logged


class Curve(TrainerCallback):
    """Keeps the losses, and prints plain lines of progress where there is no terminal for a bar.

    Attributes:
        points: `step`, `split` (train, replay, distill, anchor, validation) and `loss` of each loss, in the order they
            were logged; those from before a resume too. train is all that is minimised; replay, distill and anchor are
            terms of it, without their weights.
    """

    def __init__(self, label: str) -> None:
        """Name the training in lines of progress."""
        self.label = label
        self.points: list[dict[str, float | int | str]] = []
        self._printed = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Print the step, now and then."""
        if args.disable_tqdm and time.monotonic() - self._printed > EVERY:
            self._printed = time.monotonic()
            print(f"{self.label}: step {state.global_step} of {state.max_steps}", file=sys.stderr, flush=True)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Print that a checkpoint is written."""
        if args.disable_tqdm:
            print(f"{self.label}: checkpoint at step {state.global_step}", file=sys.stderr, flush=True)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Take the losses up to now."""
        self.points = [
            {"step": entry["step"], "split": split, "loss": float(entry[key])}
            for entry in state.log_history
            for key, split in SPLITS.items()
            if key in entry
        ]
