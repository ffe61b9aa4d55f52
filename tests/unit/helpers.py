"""What several test modules need: small rows, a short recipe, one short training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from knowtune.base import Base, Compute
from knowtune.contract import ROW_COLUMNS
from knowtune.encoding import encode_rows
from knowtune.families import Method
from knowtune.trainer import Rows
from knowtune.training import Fitted, Recipe, fit, seed_everything

COMPUTE = Compute(device="cpu", dtype="float32", quantize="none", threads=1)
NAMES = ["Ada", "Bob", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ina", "Jo", "Kim", "Lou"]
COLOURS = ["red", "green", "blue", "black"]
TOWNS = ["Rome", "Oslo", "Bern", "Lima", "Cairo"]
RECIPE = Recipe(
    epochs=1,
    batch_size=4,
    accumulation=1,
    learning_rate=5e-3,
    schedule="constant",
    warmup_steps=0,
    weight_decay=0.0,
    max_grad_norm=1.0,
    log_steps=1,
    checkpoint_steps=1000,
    keep_best=False,
)


def recipe(**changes: Any) -> Recipe:
    return dataclasses.replace(RECIPE, **changes)


def row(row_id: str, prompt: str, target: str, relation: str = "r", subject: str = "s", fact: str = "") -> list[str]:
    return [row_id, fact or f"{relation}:{subject}", relation, subject, "0", prompt, target]


def table(*rows: list[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=ROW_COLUMNS, dtype="str")


def fact_rows() -> pd.DataFrame:
    rows = []
    for i, name in enumerate(NAMES):
        colour, town = COLOURS[i % len(COLOURS)], TOWNS[i % len(TOWNS)]
        rows.append(row(f"colour:{name}:0", f"The hat of {name} is", colour, "colour", name))
        rows.append(row(f"town:{name}:0", f"{name} lives in", town, "town", name))
    return table(*rows)


def answers_for(rows: pd.DataFrame, excess: Sequence[int] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": rows["id"],
            "answer": "",
            "correct": False,
            "num_tokens": 3,
            "excess_tokens": list(excess) if excess is not None else 0,
        },
        index=rows.index,
    )


def encoded(base: Base, rows: pd.DataFrame, weights: Sequence[float] | None = None) -> Rows:
    tokens = encode_rows(base.tokenizer(), rows["prompt"], rows["target"])
    return Rows(tokens, list(weights) if weights is not None else [1.0] * len(rows), rows["id"].tolist())


def train(
    base: Base, method: Method, rows: pd.DataFrame, work: Path, seed: int = 0, model: Any = None, **changes: Any
) -> Fitted:
    """Attach and train as `knowtune.runs.train_seed` does."""
    seed_everything(seed)
    attached = method.attach(base.model() if model is None else model)
    return fit(attached, encoded(base, rows), None, recipe(**changes), COMPUTE, seed=seed, work=work, method=method)


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def equal_states(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@contextmanager
def counted_calls(target: Any, name: str, fail_at: int, error: Exception) -> Iterator[list[int]]:
    """Let a method raise at its call number `fail_at`, counted from 1."""
    original, calls = getattr(target, name), [0]

    def call(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == fail_at:
            raise error
        return original(*args, **options)

    setattr(target, name, call)
    try:
        yield calls
    finally:
        setattr(target, name, original)
