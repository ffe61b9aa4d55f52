"""Sensible numbers for a first run, by the size of the data and of the model. They are where to begin, not the best."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

LARGE = 300  # million parameters from which on full fine-tuning and several seeds are not proposed
BATCH = 16

# Up to so many million parameters: LoRA's learning rate and rank, and that of full fine-tuning.
RATES = [(50, 0.001, 16, 0.0003), (LARGE, 0.0005, 16, 0.00005), (3_000, 0.0002, 16, 0.00002),
         (math.inf, 0.0001, 8, 0.00001)]  # fmt: skip
# Up to so many rows: epochs of knowledge, on small and on large models, and of labels.
EPOCHS = [(1_000, 20, 5, 10), (5_000, 10, 3, 4), (50_000, 3, 2, 3), (math.inf, 1, 1, 1)]


@dataclass(frozen=True)
class Numbers:
    """What a preset has to say in numbers; the names are those of params.yaml."""

    threads: int
    dtype: str
    max_examples: int | None
    judge_batch: int
    max_new_tokens: int
    max_text_tokens: int
    epochs: int
    lora_rate: float
    full_rate: float | None
    rank: int
    seeds: list[int]
    warmup_steps: int
    logging_steps: int
    save_steps: int


def numbers_for(
    task: str, rows: int | None, millions: float | None, context: int | None, target_tokens: int | None
) -> Numbers:
    """Choose numbers.

    Args:
        task: its kind.
        rows: how many there are; None where not known, then many.
        millions: of the model's parameters; None where not known, then many.
        context: the model's, in tokens.
        target_tokens: that nearly every target fits into.
    """
    size = math.inf if millions is None else millions
    count = math.inf if rows is None else rows
    heads, large = task != "knowledge", size > LARGE
    _, lora_rate, rank, full_rate = next(entry for entry in RATES if size <= entry[0])
    _, small_epochs, large_epochs, head_epochs = next(entry for entry in EPOCHS if count <= entry[0])
    epochs = head_epochs if heads else large_epochs if large else small_epochs
    steps = math.ceil(epochs * min(count, 1e6) / BATCH)
    return Numbers(
        threads=1 if size <= 50 else min(8, max(1, (os.cpu_count() or 2) // 2)),
        dtype="auto" if large else "float32",
        max_examples=None if count <= 5_000 else 2_000,
        judge_batch=128 if size <= 50 else 32 if not large else 16,
        max_new_tokens=1 if heads else min(128, max(4, 2 + (target_tokens or 30))),
        max_text_tokens=min(context or 256, 256),
        epochs=epochs,
        lora_rate=lora_rate,
        full_rate=None if large else min(full_rate, 0.00005) if heads and size > 10 else full_rate,
        rank=8 if heads else rank,
        seeds=[0] if large else [0, 1, 2],
        warmup_steps=min(100, steps // 16),
        logging_steps=min(50, max(5, steps // 50 // 5 * 5)),
        save_steps=min(500, max(50, steps // 10 // 50 * 50)),
    )
