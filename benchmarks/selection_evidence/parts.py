"""What is compared on each task: budgets, rows, learning rates and arms, the most wanted first."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.selection_evidence.results import ARMS, ROWS_ALONE, VARIANTS


@dataclass(frozen=True)
class Part:
    """One comparison of all arms.

    Args:
        rank: of the LoRA whose trainable parameters are the budget.
        train_on: all rows or the chosen ones.
        learning_rates: the grid of every arm; none: the rates chosen for all rows at this rank, in a part before.
        arms: the usual ones, or variants of them.
        every_rate: train every seed with every rate, too, to see what is lost where all arms have learned the same.
    """

    rank: int
    train_on: str
    learning_rates: tuple[float, ...] = ()
    every_rate: bool = False
    arms: tuple[str, ...] = ARMS


GLUE = (Part(4, "all", (5e-4, 2e-3, 8e-3)),)
PARTS = {
    "embedded": (
        Part(4, "all", (2e-3, 6e-3, 2e-2, 6e-2)),  # fewer parameters want larger steps
        Part(4, "chosen"),
        Part(16, "all", (6e-4, 2e-3, 6e-3, 2e-2)),
        Part(1, "all", (6e-3, 2e-2, 6e-2, 2e-1)),
        Part(4, "chosen", arms=(ROWS_ALONE,)),
        Part(16, "chosen"),
        Part(1, "chosen"),
        Part(4, "all", (2e-3, 6e-3, 2e-2, 6e-2), arms=VARIANTS),
        Part(4, "all", (2e-3, 6e-3, 2e-2, 6e-2), every_rate=True, arms=(*ARMS, *VARIANTS)),
    ),
    "pararel": (
        Part(4, "all", (2e-4, 6e-4, 2e-3, 6e-3)),
        Part(16, "all", (2e-4, 6e-4, 2e-3, 6e-3)),
        Part(1, "all", (6e-4, 2e-3, 6e-3, 2e-2)),
        Part(4, "all", (2e-4, 6e-4, 2e-3, 6e-3), arms=VARIANTS),
        Part(4, "all", (2e-4, 6e-4, 2e-3, 6e-3), every_rate=True, arms=(*ARMS, *VARIANTS)),
    ),
    "cola": GLUE,
    "sst2": GLUE,
    "rte": GLUE,
}
