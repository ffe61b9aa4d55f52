"""All the trainings of one task: what is left of them, one after the other, each finished piece a line of a file."""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch

from benchmarks.evidence.comparisons import GRID_SEED
from benchmarks.evidence.materials import Material
from benchmarks.evidence.store import Store
from knowtune.common.files import text_digest
from knowtune.evaluation.compute_metrics import compute_metrics
from knowtune.evaluation.results import Results, beside_base
from knowtune.methods.base import Method
from knowtune.training.fit import Fitted, Training, fit, seed_everything
from knowtune.training.recipe import Recipe

SEEDS = (0, 1, 2, 3, 4)
BATCH = 128  # rows judged at a time
EXAMPLE_COLUMNS = ["id", "fact", "relation", "kind", "target"]


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Multiply float32 matrices on the CPU in this precision ("none": their own) inside the context."""
    setting = torch.backends.mkldnn.matmul
    before, setting.fp32_precision = setting.fp32_precision, precision
    try:
        yield
    finally:
        setting.fp32_precision = before


class Bench(ABC):
    """The work of one task; a killed run goes on.

    Args:
        material: the task.
        folder: where finished pieces are kept.
        metrics: that are computed of every training.
        num_seeds: so many of the seeds, the first ones.
    """

    net_forgotten: ClassVar[bool] = False  # whether a known fact gained makes up for one lost, as in pieces of before

    def __init__(self, material: Material, folder: Path, metrics: Sequence[str], num_seeds: int = len(SEEDS)) -> None:
        """Open the store; judge the pristine base, which every result is held against."""
        self.material, self.base, self.metrics = material, material.base, metrics
        self.seeds, self.tokenizer = SEEDS[:num_seeds], material.base.tokenizer()
        self.store = Store(folder, material.name)
        self.identity = text_digest(material.described())[:16]
        self.model = self.seeded_model(GRID_SEED)
        self.prepare()
        self.pristine = self.judge(self.model)
        if (key := self.key("base")) not in self.store.records:
            self.add("base", key, metrics=self.score(self.pristine), sizes=self.sizes())

    @abstractmethod
    def prepare(self) -> None:
        """Make what judging and training need, before the base is judged."""

    @abstractmethod
    def settings(self) -> Iterator[Any]:
        """Yield what to train, in order."""

    @abstractmethod
    def train(self, setting: Any) -> None:
        """Train and judge one setting, and keep the piece."""

    @abstractmethod
    def key(self, what: Any) -> str:
        """Name a piece by all that decides it."""

    def run(self) -> None:
        """Do what is not done yet, and say how long it takes."""
        started, done = time.monotonic(), 0
        for setting in self.settings():
            if self.key(setting) in self.store.records:
                continue
            self.train(setting)
            done += 1
            pace, left = (time.monotonic() - started) / done, self.left()
            print(
                f"{self.material.name}: {len(self.store.records)} pieces, {pace:.0f} s a training, {left} left, "
                f"about {pace * left / 60:.0f} min", flush=True,
            )  # fmt: skip

    @abstractmethod
    def left(self) -> int:
        """Count the trainings that are still to do."""

    def add(self, what: str, key: str, **record: Any) -> None:
        """Keep a finished piece."""
        self.store.add({"key": key, "what": what, "identity": self.identity, **record})

    def sizes(self) -> dict[str, Any]:
        """Count what the page tells of the task. `items`: the key of evaluation examples in the records."""
        kinds = self.material.examples["kind"].value_counts().to_dict()
        return {
            "rows": len(self.material.rows),
            "items": kinds,
            "texts": len(self.material.texts),
            "steps": self.material.steps,
        }

    def fit(
        self,
        model: torch.nn.Module,
        encoded: Any,
        method: Method,
        setting: Any,
        num_rows: int,
        recipe: Recipe | None = None,
        **options: Any,
    ) -> tuple[Fitted, float, float]:
        """Train a model that a method is attached to; return also the CPU and wall seconds that it took."""
        recipe = recipe or self.material.recipe(num_rows, setting.learning_rate)
        with tempfile.TemporaryDirectory() as work:
            cpu, wall = time.process_time(), time.monotonic()
            training = Training(
                rows=encoded, recipe=recipe, compute=self.base.compute, task=self.base.task, seed=setting.seed,
                work=Path(work), method=method, label=str(setting), **options,
            )  # fmt: skip
            with matmul_precision("bf16" if self.material.fast else "none"):
                fitted = fit(model, training)
            return fitted, time.process_time() - cpu, time.monotonic() - wall

    def score(self, results: Results) -> dict[str, Any]:
        """Compute the metrics of results, beside the pristine base's."""
        scores = compute_metrics(self.metrics, beside_base(results, self.pristine, self.base.task))
        if self.net_forgotten and "forgotten" in scores:
            known = self.pristine.examples["kind"] == "locality"
            before, after = (each.examples.loc[known, "correct"].mean() for each in (self.pristine, results))
            scores["forgotten"] = float(before - after)
        return scores

    def judge(self, model: torch.nn.Module) -> Results:
        """Judge the evaluation examples and read the texts."""
        material, evaluator = self.material, self.base.task.evaluator
        judged = self.judge_examples(model)
        examples = pd.concat([material.examples[EXAMPLE_COLUMNS], judged], axis=1)
        read, states = evaluator.read_texts(
            model, self.tokenizer, material.texts["text"].tolist(), BATCH, material.max_tokens,
            f"{material.name}: texts",
        )  # fmt: skip
        return Results(examples, pd.concat([material.texts[["id"]], read], axis=1), states)

    def judge_examples(self, model: torch.nn.Module) -> pd.DataFrame:
        """Judge the evaluation examples."""
        label = f"{self.material.name}: evaluation examples"
        return self.base.task.evaluator.judge(model, self.tokenizer, self.material.examples, BATCH, label)

    def validate(self, model: torch.nn.Module) -> dict[str, float]:
        """Judge the validation rows: the share right, and the loss."""
        rows = self.base.task.evaluator.judge(model, self.tokenizer, self.material.validation, BATCH, "validation")
        return {"right": float(rows["correct"].mean()), "loss": float(rows["loss"].mean())}

    def seeded_model(self, seed: int) -> Any:
        """Load the base; a classifier's new head follows the seed, as in training."""
        seed_everything(seed)
        return self.base.model()
