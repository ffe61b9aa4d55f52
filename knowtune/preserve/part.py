"""Where in a training a micro-batch stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A part of a training: what one process does in one micro-batch of one optimiser step.

    Args:
        step: the optimiser step, from 0, of all phases of a training.
        rows_before: rows of the task in all steps before it, of all micro-batches and processes.
        rows: of the task in this step.
        number: of the part among those of the step: micro-batch * processes + process.
        parts: how many parts the step has.
        num_processes: that share the step's gradient, by its mean.
    """

    step: int
    rows_before: int
    rows: int
    number: int = 0
    parts: int = 1
    num_processes: int = 1
