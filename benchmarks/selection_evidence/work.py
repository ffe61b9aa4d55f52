"""The list of work: choose, train, judge; each finished piece is a line of a file, so that a killed run goes on.

Selections have the run's seed, so that the lot of a random mask is part of the spread over seeds. A learning rate is
chosen on validation with a seed that no result has.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.selection_evidence.materials import CHOSEN, Material, Part
from benchmarks.selection_evidence.results import GRID_SEED, ROWS_ALONE
from benchmarks.selection_evidence.store import Store
from knowtune.common.files import text_digest
from knowtune.evaluation.leaderboard import Results, beside_base, compute_metrics
from knowtune.methods.base import Method
from knowtune.methods.fish.method import Fish as FishMethod
from knowtune.methods.lora import Lora
from knowtune.models.masks import read_mask, write_mask
from knowtune.selectors.base import Selector
from knowtune.selectors.fish import Fish
from knowtune.selectors.ird import Ird
from knowtune.selectors.magnitude import Magnitude
from knowtune.selectors.pools import ModelPool
from knowtune.selectors.random import Random
from knowtune.training.fit import encode, fit, seed_everything

SEEDS = (0, 1, 2, 3, 4)
LINEAR = "*_proj.weight"  # of a Llama
BATCH = 128  # rows judged at a time
ITEM_COLUMNS = ["id", "fact", "relation", "kind", "target"]


@dataclass(frozen=True)
class Setting:
    """What tells one training from another within a task."""

    arm: str
    rank: int
    train_on: str
    seed: int
    learning_rate: float


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Multiply float32 matrices on the CPU in this precision ("none": their own) inside the context."""
    setting = torch.backends.mkldnn.matmul
    before, setting.fp32_precision = setting.fp32_precision, precision
    try:
        yield
    finally:
        setting.fp32_precision = before


class Bench:
    """All the work of one task.

    Args:
        material: the task.
        folder: where finished pieces are kept.
        num_seeds: so many of the seeds, the first ones.
    """

    def __init__(self, material: Material, folder: Path, num_seeds: int = len(SEEDS)) -> None:
        """Open the store; judge the pristine base, which every result is held against."""
        self.material, self.base, self.seeds = material, material.base, SEEDS[:num_seeds]
        self.store = Store(folder, material.name)
        self.identity = text_digest(material.described())[:16]
        self.tokenizer = self.base.tokenizer()
        self.encoded = encode(self.tokenizer, material.rows, self.base, material.name)
        self.pristine = self.judge(self._seeded_model(GRID_SEED))
        if (key := self._key("base")) not in self.store.records:
            judged = beside_base(self.pristine, self.pristine, self.base.task)
            metrics = compute_metrics(material.metrics, judged)
            sizes = {
                "rows": len(material.rows),
                "validation": len(material.validation),
                "items": material.items["kind"].value_counts().to_dict(),
                "texts": len(material.texts),
                "steps": material.steps,
                "batch_size": material.batch_size,
                "ird_from": material.ird_from,
                "facts": int(material.rows["fact"].nunique()),
                "parameters": sum(p.numel() for p in self._seeded_model(0).parameters()),
            }
            self.store.add({"key": key, "what": "base", "identity": self.identity, "metrics": metrics, "sizes": sizes})

    def run(self) -> None:
        """Do what is not done yet, part after part: the grid of every arm, then the seeds."""
        started, done = time.monotonic(), 0
        for setting in self.settings():
            if self._key(setting) in self.store.records:
                continue
            self.train(setting)
            done += 1
            left = self.left()
            spent = time.monotonic() - started
            print(
                f"{self.material.name}: {len(self.store.records)} pieces; {left} trainings left, "
                f"about {spent / done * left / 60:.0f} min", flush=True,
            )  # fmt: skip

    def settings(self) -> Iterator[Setting]:
        """Yield what to train, in order; a seed's learning rate is looked up when the grid before it is done."""
        for part in self.material.parts:
            for arm in part.arms:
                yield from self.grid(arm, part)
            for seed in self.seeds:
                for arm in part.arms:
                    yield from self.of_seed(arm, part, seed)

    def left(self) -> int:
        """Count the trainings that are still to do."""
        left = set()
        for part in self.material.parts:
            for arm in part.arms:
                left.update(self.grid(arm, part))
                for seed in self.seeds:
                    try:
                        left.update(self.of_seed(arm, part, seed))
                    except KeyError:  # the grid is not done, and says nothing yet
                        left.add(Setting(arm, part.rank, part.train_on, seed, 0.0))
        return sum(self._key(setting) not in self.store.records for setting in left)

    def of_seed(self, arm: str, part: Part, seed: int) -> list[Setting]:
        """List a seed's trainings of an arm, at the learning rate that was chosen or at all of them."""
        rates = part.learning_rates if part.every_rate else [self.learning_rate(arm, part)]
        return [Setting(arm, part.rank, part.train_on, seed, rate) for rate in rates]

    def grid(self, arm: str, part: Part) -> list[Setting]:
        """List the trainings that an arm's learning rate is chosen by."""
        return [Setting(arm, part.rank, part.train_on, GRID_SEED, rate) for rate in part.learning_rates]

    def learning_rate(self, arm: str, part: Part) -> float:
        """Choose by the loss on the validation rows."""
        arm = "lora" if arm == ROWS_ALONE else arm
        if not part.learning_rates:
            part = next(p for p in self.material.parts if p.rank == part.rank and p.learning_rates)
        tried = [self.store.records[self._key(setting)] for setting in self.grid(arm, part)]
        return float(min(tried, key=lambda record: record["validation"]["loss"])["learning_rate"])

    def train(self, setting: Setting) -> None:
        """Train and judge one setting."""
        rows, mask = self.material.rows, None
        # LoRA on few rows has those that the random selection draws with this seed, or those that IRD chose
        chooser = {"lora": "random", ROWS_ALONE: "ird"}.get(setting.arm, setting.arm)
        if setting.arm == chooser or setting.train_on == "chosen":
            chosen, mask = self.choice(replace(setting, arm=chooser))
            rows = rows[chosen] if setting.train_on == "chosen" else rows
        encoded = encode(self.tokenizer, rows, self.base, self.material.name)
        method: Method
        seed_everything(setting.seed)  # before the model exists: a new head and an adapter's start are random
        if setting.arm != chooser:
            method = Lora(rank=setting.rank, alpha=2.0 * setting.rank)
            model = method.attach(self.base.model())
        else:
            method = FishMethod()
            model = method.attach_masked(self.base.model(), mask or {}, None)
        with tempfile.TemporaryDirectory() as work, products("bf16" if self.material.fast else "none"):
            cpu, wall = time.process_time(), time.monotonic()
            fitted = fit(
                model, encoded, None, self.material.recipe(len(rows), setting.learning_rate), self.base.compute,
                self.base.task, seed=setting.seed, work=Path(work), method=method, label=str(setting),
            )  # fmt: skip
            cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        if fitted.num_trainable != self.budgets[setting.rank] or fitted.num_steps != self.material.steps:
            raise AssertionError(f"{setting}: {fitted.num_trainable} trained in {fitted.num_steps} steps")
        judged = beside_base(self.judge(fitted.model), self.pristine, self.base.task)
        self.store.add({
            "key": self._key(setting), "what": "training", "identity": self.identity, **asdict(setting),
            "num_trainable": fitted.num_trainable, "metrics": compute_metrics(self.material.metrics, judged),
            "validation": self.validate(fitted.model), "cpu": cpu, "wall": wall,
        })  # fmt: skip

    def choice(self, setting: Setting) -> tuple[pd.Series[bool], dict[str, torch.Tensor]]:
        """Give the chosen rows and the mask of a seed, from the store where they are there."""
        # On a base without a new head, IRD and magnitude have no lot in their mask; rows by magnitude still have.
        lot_free = setting.arm == "ird" and self.base.task.learned == "generalisation"
        name = f"{setting.arm}-{setting.rank}-{'any' if lot_free else setting.seed}"
        key = self._key(["selection", name])
        path = self.store.masks / f"{self.material.name}-{key}.safetensors"
        if key not in self.store.records or not path.is_file():
            seed_everything(setting.seed)
            pool = self.pool(setting.arm, setting.seed)
            cpu, wall = time.process_time(), time.monotonic()
            choice = self.selector(setting.arm, setting.rank).choose(pool, setting.seed)
            cpu, wall = time.process_time() - cpu, time.monotonic() - wall
            write_mask(path, choice.mask or {})
            layers = choice.layers
            assert layers is not None  # every arm has a mask
            self.store.add({
                "key": key, "what": "selection", "identity": self.identity,
                "arm": setting.arm, "rank": setting.rank, "seed": setting.seed, "cpu": cpu, "wall": wall,
                "chosen": pool.rows["id"][choice.chosen].tolist(), "trace": choice.trace,
                "kept": dict(zip(layers["parameter"], layers["kept"].tolist(), strict=True)),
            })  # fmt: skip
        return self.material.rows["id"].isin(self.store.records[key]["chosen"]), read_mask(path)

    def pool(self, arm: str, seed: int) -> ModelPool:
        """Make what a seed chooses among; for IRD, some rows drawn by the seed where all would cost too much."""
        rows, encoded = self.material.rows, self.encoded.rows
        if arm == "ird" and self.material.ird_from is not None:
            drawn = rows.sample(self.material.ird_from, random_state=seed).index.sort_values()
            rows, encoded = rows.loc[drawn].reset_index(drop=True), [encoded[i] for i in drawn]
        pattern = LINEAR if arm == "random-linear" else None
        return ModelPool(rows, encoded, self._seeded_model(seed), self.base.task, pattern=pattern, seed=seed)

    def selector(self, arm: str, rank: int) -> Selector:
        """Make an arm's selector."""
        num = self.budgets[rank]
        if arm == "ird":
            return Ird(num_parameters=num, samples=CHOSEN, rounds=4)
        if arm == "fish-even":
            return Fish(num_parameters=num, samples=CHOSEN, granularity="parameter")
        if arm == "random-linear":
            return Random(num_parameters=num, samples=CHOSEN, pattern=LINEAR)
        kind = {"random": Random, "magnitude": Magnitude, "fish": Fish}[arm]
        made: Selector = kind(num_parameters=num, samples=CHOSEN)
        return made

    @cached_property
    def budgets(self) -> dict[int, int]:
        """Trainable parameters of LoRA at every rank, a classifier's head included."""
        found = {}
        for rank in {part.rank for part in self.material.parts}:
            model = Lora(rank=rank, alpha=2.0 * rank).attach(self.base.model())
            found[rank] = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return found

    def judge(self, model: torch.nn.Module) -> Results:
        """Judge the items and read the texts."""
        material = self.material
        judged = self.base.task.evaluator.judge(model, self.tokenizer, material.items, BATCH, f"{material.name}: items")
        texts = material.texts
        read, states = self.base.task.evaluator.read_texts(
            model, self.tokenizer, texts["text"].tolist(), BATCH, material.max_tokens, f"{material.name}: texts"
        )
        return Results(
            pd.concat([material.items[ITEM_COLUMNS], judged], axis=1), pd.concat([texts[["id"]], read], axis=1), states
        )

    def validate(self, model: torch.nn.Module) -> dict[str, float]:
        """Judge the validation rows: the share right, and the loss."""
        rows = self.base.task.evaluator.judge(model, self.tokenizer, self.material.validation, BATCH, "validation")
        return {"right": float(rows["correct"].mean()), "loss": float(rows["loss"].mean())}

    def _seeded_model(self, seed: int) -> Any:
        """Load the base; a classifier's new head follows the seed, as in training."""
        seed_everything(seed)
        return self.base.model()

    def _key(self, what: Any) -> str:
        """Name a piece by all that decides it."""
        return text_digest([self.identity, asdict(what) if isinstance(what, Setting) else what])[:24]
