"""What is compared on each task: budgets, rows, learning rates and arms, the most wanted first."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.selection_evidence.arms import ARMS, LIKE_LORA


@dataclass(frozen=True)
class Part:
    """Trainings of some arms at one budget.

    Args:
        rank: of the LoRA whose trainable parameters are the budget.
        train_on: all rows or the chosen ones.
        learning_rates: the grid of every arm; none: the rates chosen for all rows at this rank.
        curve: rates that every seed trains at; none: at the chosen rate. What is forgotten is compared where arms have
            learned the same, so two arms need rates between which what they learn overlaps.
        arms: that are trained.
    """

    rank: int
    train_on: str
    learning_rates: tuple[float, ...] = ()
    curve: tuple[float, ...] = ()
    arms: tuple[str, ...] = ARMS


EMBEDDED = {1: (6e-3, 2e-2, 6e-2, 2e-1), 4: (2e-3, 6e-3, 2e-2, 6e-2), 16: (6e-4, 2e-3, 6e-3, 2e-2)}
PARAREL = {1: (6e-4, 2e-3, 6e-3, 2e-2), 4: (2e-4, 6e-4, 2e-3, 6e-3), 16: (2e-4, 6e-4, 2e-3, 6e-3)}
MATCHED = ("fish-linear-even", "random-linear-even")
GLUE = (Part(4, "all", (5e-4, 2e-3, 8e-3)),)
PARTS = {
    "embedded": (
        Part(4, "all", EMBEDDED[4]),  # fewer parameters want larger steps
        Part(4, "chosen"),
        Part(4, "all", EMBEDDED[4], arms=("fish-even", "random-linear")),
        Part(4, "all", curve=EMBEDDED[4], arms=(*ARMS, "fish-even", "random-linear")),
        Part(16, "all", EMBEDDED[16]),
        Part(16, "all", curve=(2e-3,), arms=("random", "lora")),
        Part(16, "all", curve=(6e-4,), arms=("fish",)),
        Part(4, "all", curve=(6e-4,), arms=("fish", "ird", "fish-even")),
        Part(1, "all", EMBEDDED[1]),
        Part(1, "all", curve=(2e-2,), arms=("random", "lora")),
        Part(1, "all", curve=(2e-3,), arms=("fish",)),
        Part(4, "all", EMBEDDED[4], arms=MATCHED),
        Part(4, "all", curve=(6e-4, 2e-3, 6e-3), arms=("fish-linear-even",)),
        Part(4, "all", curve=(6e-3, 2e-2), arms=("random-linear-even",)),
        Part(4, "chosen", arms=tuple(LIKE_LORA)),
        Part(16, "chosen"),
        Part(1, "chosen"),
        Part(16, "chosen", arms=tuple(LIKE_LORA)),
        Part(1, "chosen", arms=tuple(LIKE_LORA)),
        Part(16, "all", curve=(6e-4,), arms=("ird",)),
        Part(1, "all", curve=(2e-3,), arms=("ird",)),
    ),
    "pararel": (
        Part(4, "all", PARAREL[4]),
        Part(16, "all", PARAREL[16]),
        Part(1, "all", PARAREL[1]),
        Part(4, "all", curve=(2e-3,), arms=("random", "lora")),
        Part(4, "all", curve=(2e-4,), arms=("fish",)),
        Part(4, "all", curve=(6e-4,), arms=("random", "lora")),
        Part(16, "all", curve=(2e-4,), arms=("fish",)),
        Part(16, "all", curve=(6e-4,), arms=("lora",)),
        Part(1, "all", curve=(6e-3,), arms=("random",)),
        Part(1, "all", curve=(2e-3,), arms=("random", "lora")),
        Part(4, "all", PARAREL[4], arms=MATCHED),
        Part(4, "all", curve=(2e-4, 6e-4), arms=("fish-linear-even",)),
        Part(4, "all", curve=(6e-4, 2e-3), arms=("random-linear-even",)),
        Part(16, "all", PARAREL[16], arms=MATCHED),
        Part(16, "all", curve=(2e-4,), arms=MATCHED),
        Part(16, "all", curve=(6e-4,), arms=("random-linear-even",)),
        Part(1, "all", PARAREL[1], arms=MATCHED),
        Part(1, "all", curve=(2e-3,), arms=MATCHED),
        Part(1, "all", curve=(6e-3,), arms=("random-linear-even",)),
    ),
    "cola": GLUE,
    "sst2": GLUE,
    "rte": GLUE,
}
