"""The curve of a training, and its progress where there is no terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from knowtune.methods.base import Method

EVERY = 10  # seconds between lines of progress
TERMS = ("replay", "distill", "anchor")
OWN = "similarity"  # of what is trained to the words that it began at, where a method says it
SPLITS = {"loss": "train", **{term: term for term in (*TERMS, OWN)}, "eval_loss": "validation"}  # of what is logged


class Curve(TrainerCallback):
    """Keeps the losses, and prints plain lines of progress where there is no terminal for a bar.

    Attributes:
        points: `step`, `split` (train, replay, distill, anchor, similarity, validation) and `loss` of each, in the
            order they were logged; those from before a resume too. train is all that is minimised; replay, distill and
            anchor are terms of it, without their weights; similarity is no loss, see `Method.similarity`.
    """

    def __init__(self, label: str, method: Method | None = None) -> None:
        """Name the training in lines of progress, and take its method."""
        self.label, self.method = label, method
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
        if self.method is not None and "loss" in (logs or {}):
            similarity = self.method.similarity(kwargs["model"])
            if similarity is not None:
                state.log_history[-1][OWN] = similarity
        self.points = [
            {"step": entry["step"], "split": split, "loss": float(entry[key])}
            for entry in state.log_history
            for key, split in SPLITS.items()
            if key in entry
        ]
