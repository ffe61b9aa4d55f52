"""The trainings behind docs/evidence.md: choose, train, judge.

Selections have the run's seed, so that the noise of a random mask is part of the spread over seeds. A learning rate is
chosen by the measure of learning that the page reports, with a seed that no result has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.evidence.bench import SEEDS, Bench
from benchmarks.evidence.comparisons import GRID_SEED
from benchmarks.evidence.curves import chosen_rate
from benchmarks.evidence.materials import Material
from benchmarks.selection_evidence.arms import LIKE_LORA, LINEAR, MASKS, SAME_RELATIONS
from benchmarks.selection_evidence.parts import Part
from knowtune.common.files import text_digest
from knowtune.methods.base import Method
from knowtune.methods.fish.method import Fish as FishMethod
from knowtune.methods.lora import Lora
from knowtune.models.masks import read_mask, write_mask
from knowtune.selectors.pools import ModelPool
from knowtune.training.dataset import encode
from knowtune.training.fit import seed_everything

CHOSEN = 128  # rows that every selection chooses


@dataclass(frozen=True)
class Setting:
    """What tells one training from another within a task."""

    arm: str
    rank: int
    train_on: str
    seed: int
    learning_rate: float


class SelectionBench(Bench):
    """All the work of one task.

    Args:
        material: the task.
        parts: what is compared, the most wanted first.
        folder: where finished pieces are kept.
        num_seeds: so many of the seeds, the first ones.
    """

    net_forgotten = True

    def __init__(self, material: Material, parts: Sequence[Part], folder: Path, num_seeds: int = len(SEEDS)) -> None:
        """See `Bench`."""
        self.parts = parts
        super().__init__(material, folder, material.metrics, num_seeds)

    def prepare(self) -> None:
        """Tokenize the training rows."""
        self.encoded = encode(self.tokenizer, self.material.rows, self.base, self.material.name)

    def sizes(self) -> dict[str, Any]:
        """Count also what a selection starts from."""
        return {
            **super().sizes(),
            "validation": len(self.material.validation),
            "batch_size": self.material.batch_size,
            "ird_from": self.material.ird_from,
            "facts": int(self.material.rows["fact"].nunique()),
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }

    def settings(self) -> Iterator[Setting]:
        """Yield what to train, in order; a seed's learning rate is looked up when the grid before it is done."""
        for part in self.parts:
            for arm in part.arms:
                yield from self.grid(arm, part)
            for seed in self.seeds:
                for arm in part.arms:
                    yield from self.of_seed(arm, part, seed)

    def left(self) -> int:
        """Count the trainings that are still to do."""
        left = set()
        for part in self.parts:
            for arm in part.arms:
                left.update(self.grid(arm, part))
                for seed in self.seeds:
                    try:
                        left.update(self.of_seed(arm, part, seed))
                    except KeyError:  # the grid is not done, and says nothing yet
                        left.add(Setting(arm, part.rank, part.train_on, seed, 0.0))
        return sum(self.key(setting) not in self.store.records for setting in left)

    def of_seed(self, arm: str, part: Part, seed: int) -> list[Setting]:
        """List a seed's trainings of an arm: at the learning rate that was chosen, or at those of a curve."""
        rates = part.curve or (self.learning_rate(arm, part),)
        return [Setting(arm, part.rank, part.train_on, seed, rate) for rate in rates]

    def grid(self, arm: str, part: Part) -> list[Setting]:
        """List the trainings that an arm's learning rate is chosen by."""
        return [Setting(arm, part.rank, part.train_on, GRID_SEED, rate) for rate in part.learning_rates]

    def learning_rate(self, arm: str, part: Part) -> float:
        """Choose by the measure that is reported; on few rows, the rate that was chosen for all rows."""
        arm = "lora" if arm in LIKE_LORA else arm
        if not part.learning_rates:
            part = next(p for p in self.parts if p.rank == part.rank and p.learning_rates and arm in p.arms)
        tried = [self.store.records[self.key(setting)] for setting in self.grid(arm, part)]
        return chosen_rate({record["learning_rate"]: record["metrics"] for record in tried}, self.metrics[0])

    def train(self, setting: Setting) -> None:
        """Train and judge one setting."""
        rows, mask = self.material.rows, None
        is_masked = setting.arm in MASKS
        if is_masked:
            chosen, mask = self.choice(setting)
        if setting.train_on == "chosen":
            rows = rows[chosen if is_masked else self.rows_alone(setting)]
        encoded = encode(self.tokenizer, rows, self.base, self.material.name)
        method: Method
        seed_everything(setting.seed)  # before the model exists: a new head and an adapter's start are random
        if is_masked:
            method = FishMethod()
            model = method.attach_masked(self.base.model(), mask or {}, None)
        else:
            method = Lora(rank=setting.rank, alpha=2.0 * setting.rank)
            model = method.attach(self.base.model())
        fitted, cpu, wall = self.fit(model, encoded, method, setting, len(rows))
        if fitted.num_trainable != self.budgets[setting.rank] or fitted.num_steps != self.material.steps:
            raise AssertionError(f"{setting}: {fitted.num_trainable} trained in {fitted.num_steps} steps")
        self.add(
            "training", self.key(setting), **asdict(setting), num_trainable=fitted.num_trainable,
            metrics=self.score(self.judge(fitted.model)), validation=self.validate(fitted.model), cpu=cpu, wall=wall,
        )  # fmt: skip

    def rows_alone(self, setting: Setting) -> pd.Series[bool]:
        """Return the rows that LoRA trains on: those of a selection with its seed, or random ones of like relations."""
        rows = self.material.rows
        if setting.arm != SAME_RELATIONS:
            return self.choice(replace(setting, arm=LIKE_LORA.get(setting.arm, "random")))[0]
        chosen, _ = self.choice(replace(setting, arm="ird"))
        counts = rows.loc[chosen, "relation"].value_counts()
        drawn = [
            own.sample(int(counts.get(relation, 0)), random_state=setting.seed)
            for relation, own in rows.groupby("relation")
        ]
        return rows["id"].isin(pd.concat(drawn)["id"])

    def choice(self, setting: Setting) -> tuple[pd.Series[bool], dict[str, torch.Tensor]]:
        """Return the chosen rows and the mask of a seed, from the store where they are there."""
        # On a base without a new head, IRD and magnitude have nothing random in their mask; magnitude's rows still are.
        is_deterministic = setting.arm in ("ird", "ird-even") and self.base.task.learned == "generalisation"
        name = f"{setting.arm}-{setting.rank}-{'any' if is_deterministic else setting.seed}"
        key = self.key(["selection", name])
        path = self.store.masks / f"{self.material.name}-{key}.safetensors"
        if key not in self.store.records or not path.is_file():
            seed_everything(setting.seed)
            pool = self.pool(setting.arm, setting.seed)
            cpu, wall = time.process_time(), time.monotonic()
            selector = MASKS[setting.arm](num_parameters=self.budgets[setting.rank], samples=CHOSEN)
            choice = selector.choose(pool, setting.seed)
            cpu, wall = time.process_time() - cpu, time.monotonic() - wall
            write_mask(path, choice.mask or {})
            layers = choice.layers
            assert layers is not None  # every arm has a mask
            if key not in self.store.records:  # else the mask alone was not kept
                self.add(
                    "selection", key, arm=setting.arm, rank=setting.rank, seed=setting.seed, cpu=cpu, wall=wall,
                    chosen=pool.rows["id"][choice.chosen].tolist(), trace=choice.trace,
                    kept=dict(zip(layers["parameter"], layers["kept"].tolist(), strict=True)),
                )  # fmt: skip
        return self.material.rows["id"].isin(self.store.records[key]["chosen"]), read_mask(path)

    def pool(self, arm: str, seed: int) -> ModelPool:
        """Make what a seed chooses among; for IRD, some random rows where all would cost too much."""
        rows, encoded = self.material.rows, self.encoded.rows
        if arm == "ird" and self.material.ird_from is not None:
            drawn = rows.sample(self.material.ird_from, random_state=seed).index.sort_values()
            rows, encoded = rows.loc[drawn].reset_index(drop=True), [encoded[i] for i in drawn]
        pattern = LINEAR if "linear" in arm else None
        return ModelPool(rows, encoded, self.seeded_model(seed), self.base.task, pattern=pattern, seed=seed)

    @cached_property
    def budgets(self) -> dict[int, int]:
        """Trainable parameters of LoRA at every rank, a classifier's head included."""
        budgets = {}
        for rank in {part.rank for part in self.parts}:
            model = Lora(rank=rank, alpha=2.0 * rank).attach(self.base.model())
            budgets[rank] = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return budgets

    def key(self, what: Any) -> str:
        """Name a piece by all that decides it."""
        return text_digest([self.identity, asdict(what) if isinstance(what, Setting) else what])[:24]
