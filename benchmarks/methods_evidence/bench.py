"""The trainings behind docs/evidence-methods.md: attach, train, judge beside the pristine base.

A learning rate is chosen by what is reported, with a seed that no result has, among rates that go on until the best
lies between two others. Where that seed learns the same at rates that are not neighbours, a second one trains at these
and decides. The results' seeds train at the chosen rate and at the next lower one, so that forgetting can be read off
at equal learning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence.bench import SEEDS, Bench
from benchmarks.evidence.comparisons import GRID_SEED, SECOND_SEED
from benchmarks.evidence.curves import chosen_rate, decided_rate, open_rates
from benchmarks.evidence.materials import Material
from benchmarks.measuring import machine, peak_memory
from benchmarks.methods_evidence.arms import FEW, LOW_RANK, RANK, TEXTS, Arm, arms_of, grid
from knowtune.common.files import text_digest
from knowtune.evaluation.compute_metrics import compute_metrics
from knowtune.evaluation.results import Results, beside_base
from knowtune.methods import METHODS
from knowtune.methods.base import Method
from knowtune.methods.kasa.method import Kasa
from knowtune.methods.sk_tuning.tuner.reading import tokens_of
from knowtune.registry import member_class
from knowtune.training.dataset import encode
from knowtune.training.fit import seed_everything


@dataclass(frozen=True)
class Setting:
    """What tells one training from another within a task."""

    arm: str
    seed: int
    learning_rate: float


class MethodsBench(Bench):
    """All the work of one task.

    Args:
        material: the task.
        folder: where finished pieces are kept.
        num_seeds: so many of the seeds, the first ones.
    """

    def __init__(self, material: Material, folder: Path, num_seeds: int = len(SEEDS)) -> None:
        """See `Bench`."""
        self.arms = {arm.name: arm for arm in arms_of(material.name)}
        super().__init__(material, folder, material.metrics, num_seeds)

    def prepare(self) -> None:
        """Tokenize the training rows, and count the tokens of the text."""
        self.encoded = encode(self.tokenizer, self.material.rows, self.base, self.material.name)
        self.num_tokens = len(tokens_of(self.tokenizer, TEXTS[self.material.name]))

    def sizes(self) -> dict[str, Any]:
        """Count also the virtual tokens, and what the page says of the model."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        more = {"batch_size": self.material.batch_size, "virtual_tokens": self.num_tokens, "parameters": parameters}
        return {**super().sizes(), **more}

    def settings(self) -> Iterator[Setting]:
        """Yield what to train, in order; what follows from a training is looked up when it is done."""
        few, rest = self.seeds[:FEW], self.seeds[FEW:]
        for arm in self.arms.values():
            while missing := self.choosing_left(arm):
                yield missing[0]
            yield from (setting for seed in few for setting in self.of_seed(arm, seed))
        yield from (setting for arm in self.arms.values() for seed in rest for setting in self.of_seed(arm, seed))

    def left(self) -> int:
        """Count the trainings that are still to do; a grid that is not done yet may grow."""
        left = 0
        for arm in self.arms.values():
            grid_left = len(self.choosing_left(arm))
            left += grid_left
            for seed in self.seeds:
                left += 2 if grid_left else len(self.missing(self.of_seed(arm, seed)))
        return left

    def missing(self, settings: Sequence[Setting]) -> list[Setting]:
        """List those that are not trained yet."""
        return [setting for setting in settings if self.key(setting) not in self.store.records]

    def choosing_left(self, arm: Arm) -> list[Setting]:
        """List the trainings that an arm's rate still has to be chosen by, the second seed's when the first is done."""
        return self.missing(self.tried(arm)) or self.missing(self.again(arm))

    def scores(self, settings: Sequence[Setting]) -> dict[float, dict[str, float]]:
        """Give what trainings of one arm and seed scored, by rate."""
        return {each.learning_rate: self.store.records[self.key(each)]["metrics"] for each in settings}

    def tried(self, arm: Arm) -> list[Setting]:
        """List the trainings that an arm's rate is chosen by."""

        def of(rates: Sequence[float]) -> list[Setting]:
            return [Setting(arm.name, GRID_SEED, rate) for rate in rates]

        def best(rates: Sequence[float]) -> float | None:
            return None if self.missing(of(rates)) else chosen_rate(self.scores(of(rates)), self.metrics[0])

        return of(grid(arm, self.material.name, best))

    def again(self, arm: Arm) -> list[Setting]:
        """List the trainings of the second seed, at the rates that leave the choice open when all are tried."""
        rates = open_rates(self.scores(self.tried(arm)), self.metrics[0])
        return [Setting(arm.name, SECOND_SEED, rate) for rate in rates]

    def of_seed(self, arm: Arm, seed: int) -> list[Setting]:
        """List a seed's trainings: at the chosen rate and the one below, or the two lowest; none while it is open."""
        tried = self.scores(self.tried(arm))
        chosen = decided_rate(tried, self.scores(self.again(arm)), self.metrics[0])
        if chosen is None:
            return []
        pairs = list(pairwise(sorted(tried)))
        pair = next((pair for pair in pairs if pair[1] == chosen), pairs[0])
        return [Setting(arm.name, seed, rate) for rate in pair]

    def key(self, what: Any) -> str:
        """Name a piece by all that decides it."""
        made = (
            [asdict(what), asdict(self.arms[what.arm]), TEXTS[self.material.name]]
            if isinstance(what, Setting)
            else what
        )
        return text_digest([self.identity, made])[:24]

    def method(self, arm: Arm) -> Method:
        """Make an arm's method."""
        options = dict(arm.options)
        if arm.reads:
            options["text"] = TEXTS[self.material.name]
        if arm.counts:
            options["num_virtual_tokens"] = self.num_tokens
        own = {arm.method: arm.method} if ":" in arm.method else METHODS
        method: Method = member_class(own, "method", arm.method)(**options)
        return method

    def train(self, setting: Setting) -> None:
        """Train and judge one setting."""
        arm = self.arms[setting.arm]
        method = self.method(arm)
        seed_everything(setting.seed)  # before the model exists: a new head and an adapter's start are random
        with peak_memory() as peak:
            model = method.attach(self.base.model())
            fitted, cpu, wall = self.fit(model, self.encoded, method, setting, len(self.material.rows))
            memory = peak()
        results = self.judge(fitted.model)
        scores = self.score(results)
        if isinstance(method, Kasa) and arm.family == LOW_RANK and "forgotten" in self.metrics:
            scores["forgotten_of_truncated"] = self.beside_truncated(results)
        self.add(
            "training", self.key(setting), **asdict(setting), metrics=scores, cpu=cpu, wall=wall, memory=memory,
            steps=fitted.num_steps, num_trainable=fitted.num_trainable, machine=machine(),
        )  # fmt: skip

    def beside_truncated(self, results: Results) -> float:
        """Give what is forgotten of what KaSA's truncated base knows, instead of the pristine one."""
        beside = beside_base(results, self.truncated, self.base.task)
        return float(compute_metrics(["forgotten"], beside)["forgotten"])

    @cached_property
    def truncated(self) -> Results:
        """What KaSA's base, less its smallest singular values, has right before any training; kept with the pieces."""
        torch.manual_seed(GRID_SEED)
        results = self.judge(Kasa(**RANK).attach(self.base.model()))
        if (key := self.key("truncated")) not in self.store.records:
            self.add("truncated", key, metrics=self.score(results))
        return results
