"""The trainings behind docs/evidence-preserve.md: train with what an arm preserves by, judge beside the base.

An arm is tried at its learning rates with a seed that no result has, and every seed trains at all of them: so what is
forgotten can be read off at equal learning. What is trained at the last rate of some parts is mixed with its base, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from benchmarks.evidence.bench import BATCH, SEEDS, Bench
from benchmarks.evidence.comparisons import GRID_SEED
from benchmarks.measuring import machine, peak_memory
from benchmarks.preserve_evidence.arms import BUDGETS, METHODS, Arm, Averaged, Part
from benchmarks.preserve_evidence.interpolations import MIXTURES, average_in, mixed
from benchmarks.preserve_evidence.kept import Keeper
from benchmarks.preserve_evidence.materials import Task
from knowtune.common.files import text_digest
from knowtune.evaluation.evaluate import EvaluationSet, judge_model
from knowtune.evaluation.results import Results
from knowtune.methods import METHODS as METHOD_CLASSES
from knowtune.methods.base import MaskedMethod, Method
from knowtune.models.masks import Mask
from knowtune.preserve.preservation import Preservation
from knowtune.registry import member_class
from knowtune.selectors import SELECTORS
from knowtune.selectors.pools import ModelPool
from knowtune.tasks.answers import Decoding
from knowtune.training.dataset import encode
from knowtune.training.fit import seed_everything
from knowtune.training.reweighting import Plan, open_reweighting
from knowtune.training.weights import Weighting

COPY = 1000  # from one seed to the next, of trainings that are averaged


@dataclass(frozen=True)
class Setting:
    """What tells one training from another within a task."""

    arm: str
    seed: int
    learning_rate: float


class PreserveBench(Bench):
    """All the work of one task.

    Args:
        task: what is learned, and what may be replayed.
        parts: what is trained, the most wanted first.
        folder: where finished pieces are kept.
        num_seeds: so many of the seeds, the first ones.
    """

    methods: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = METHODS

    def __init__(self, task: Task, parts: Sequence[Part], folder: Path, num_seeds: int = len(SEEDS)) -> None:
        """See `Bench`."""
        self.task, self.parts, self.folder = task, parts, folder
        self.arms = {arm.name: arm for part in parts for arm in part.arms}
        super().__init__(task.material, folder, task.material.metrics, num_seeds)

    def prepare(self) -> None:
        """Let the base write, and look which known rows it has right."""
        self.identity = text_digest([self.identity, self.task.described()])[:16]
        self.keeper = Keeper(self.task, self.model, self.folder / "kept" / f"{self.material.name}-{self.identity}")

    def sizes(self) -> dict[str, Any]:
        """Count also what may be replayed."""
        return {**super().sizes(), "batch_size": self.material.batch_size, "kept": self.keeper.sizes()}

    def settings(self) -> Iterator[Setting]:
        """Yield what to train, in order: of each part the trainings that rates are chosen by, then seed after seed."""
        for part in self.parts:
            for seed in (GRID_SEED, *self.seeds):
                for arm in part.arms:
                    yield from (Setting(arm.name, seed, rate) for rate in part.rates)

    def left(self) -> int:
        """Count the trainings that are still to do."""
        return sum(self.key(setting) not in self.store.records for setting in set(self.settings()))

    def key(self, what: Any) -> str:
        """Name a piece by all that decides it."""
        if not isinstance(what, Setting):
            return text_digest([self.identity, what])[:24]
        arm = asdict(self.arms[what.arm])
        made = self.methods[arm["method"]], BUDGETS.get(arm["method"])
        return text_digest([self.identity, asdict(what), arm, *made])[:24]

    def train(self, setting: Setting) -> None:
        """Train and judge one setting, and its mixtures."""
        arm = self.arms[setting.arm]
        if isinstance(arm, Averaged):
            self.average(arm, setting)
            return
        model, costs = self.fitted(arm, setting)
        scores = self.keep(arm, setting, model, costs)
        if any(part.mixed and arm in part.arms and setting.learning_rate == part.rates[-1] for part in self.parts):
            self.mix(self.method(arm).fold(model), setting, scores)

    def average(self, arm: Averaged, setting: Setting) -> None:
        """Train several times, with seeds of their own, and judge the average of all; the first one alone, too."""
        tuned, costs, alone = None, [], replace(setting, arm=arm.alone.name)
        for copy in range(arm.copies):
            own = replace(alone, seed=setting.seed + COPY * copy)
            model, cost = self.fitted(arm.alone, own)
            if own in self.settings() and self.key(own) not in self.store.records:
                self.keep(arm.alone, own, model, cost)
            folded = self.method(arm.alone).fold(model)
            costs.append(cost)
            tuned = folded if tuned is None else average_in(tuned, folded, copy + 1)
        summed = {key: sum(cost[key] for cost in costs) for key in ("cpu", "wall", "ready")}
        memory = max(cost["memory"] for cost in costs)
        self.keep(arm, setting, tuned, {**costs[0], **summed, "memory": memory})

    def keep(self, arm: Arm, setting: Setting, model: Any, costs: Mapping[str, Any]) -> dict[str, Any]:
        """Judge a trained model and keep the piece; return what it scores."""
        scores = self.score(self.judge(model))
        self.add(
            "training", self.key(setting), **asdict(setting), metrics=scores, **costs, machine=machine(),
            **self.look(arm, model),
        )  # fmt: skip
        return scores

    def fitted(self, arm: Arm, setting: Setting) -> tuple[Any, dict[str, Any]]:
        """Train one setting; return the model, its method attached, and what it took."""
        label = str(setting)
        method = self.method(arm)
        started = time.process_time()
        mask = self.mask(arm, setting.seed) if arm.selector else None
        preservation = self.keeper.preservation(arm.preserve, setting.seed, label) if arm.preserve else None
        encoded = encode(self.tokenizer, self.material.rows, self.base, label)
        reweighting = None
        if arm.reweight is not None:
            plan = Plan(Weighting(**arm.reweight), None, 1, 0, f"{label}: reweight")
            reweighting = open_reweighting(plan, self.material.rows, encoded, self.base, self.tokenizer, label)
        seed_everything(setting.seed)  # before the adapter exists: its random start is part of the result
        recipe = self.material.recipe(len(encoded), setting.learning_rate)
        recipe = recipe.with_changes({"epochs": recipe.epochs * arm.epochs, "load_best_model_at_end": arm.best})
        validation = encode(self.tokenizer, self.material.validation, self.base, label) if arm.best else None
        ready = time.process_time() - started
        with peak_memory() as peak:
            model = self.attached(method, mask, preservation)
            fitted, cpu, wall = self.fit(
                model, encoded, method, setting, len(encoded), recipe=recipe, validation=validation,
                preservation=preservation, reweighting=reweighting,
            )  # fmt: skip
            memory = peak()
        counts = {"steps": fitted.num_steps, "num_trainable": fitted.num_trainable}
        return fitted.model, {"cpu": cpu, "wall": wall, "ready": ready, "memory": memory, **counts}

    def method(self, arm: Arm) -> Method:
        """Make an arm's method."""
        name, options = self.methods[arm.method]
        method: Method = member_class(METHOD_CLASSES, "method", name)(**options)
        return method

    def look(self, arm: Arm, model: torch.nn.Module) -> dict[str, Any]:
        """Note what else a page wants to know of a trained model."""
        return {}

    def attached(self, method: Method, mask: Mask | None, preservation: Preservation | None) -> torch.nn.Module:
        """Load the base and attach a method; what preserves looks at both."""
        model = self.base.model()
        if preservation is not None:
            preservation.see_base(model)
        if mask is not None:
            assert isinstance(method, MaskedMethod)
            attached = method.attach_masked(model, mask, None)
        else:
            attached = method.attach(model)
        if preservation is not None:
            preservation.see_attached(attached)
        return attached

    def mask(self, arm: Arm, seed: int) -> Mask | None:
        """Choose a mask; Fisher information about what must stay is read from the folder, where it lies there."""
        assert arm.selector is not None
        member = member_class(SELECTORS, "selector", arm.selector)
        encoded = self.base.task.encode(self.tokenizer, self.material.rows)
        pool = ModelPool(
            self.material.rows, encoded, self.seeded_model(seed), self.base.task, seed=seed,
            material=self.keeper.material, work=self.keeper.folder / "fisher-passes",
        )  # fmt: skip
        protect = {} if arm.protection is None else {"protect": arm.protection}
        samples = min(128, len(encoded))
        mask: Mask | None = member(budget=BUDGETS[arm.method], samples=samples, **protect).choose(pool, seed).mask
        return mask

    def mix(self, tuned: Any, setting: Setting, whole: Mapping[str, float]) -> None:
        """Judge mixtures of what is trained with its base, on what measures and on what a choice is made by.

        Args:
            tuned: the trained model, folded.
            setting: how it was trained.
            whole: what it scores as it is.
        """
        for kind, mixtures in MIXTURES.items():
            for alpha, mixture in mixtures.items():
                piece = {"arm": f"{setting.arm}, {kind}", "seed": setting.seed, "alpha": alpha}
                with mixed(tuned, self.model, mixture) as model:
                    scores = whole if alpha == 1 else self.score(self.judge(model))
                    learned = self.validate(model)["right"]
                    forgotten = 1 - self.keeper.share_right(model)
                choice = {"learned": learned, "forgotten": forgotten}
                self.add("mixture", self.key([self.key(setting), kind, alpha]), **piece, metrics=scores, choice=choice)

    def judge(self, model: torch.nn.Module) -> Results:
        """Judge the evaluation examples, read the texts, and compare distributions with the base's."""
        label = f"{self.material.name}: judged"
        return judge_model(self.evaluation_set, model, self.base, None, label, self.model)

    @cached_property
    def evaluation_set(self) -> EvaluationSet:
        """What models are judged on."""
        material = self.material
        decoding = Decoding(BATCH, 1, 0)  # no metric reads answers
        return EvaluationSet(material.examples, material.texts, self.metrics, decoding, material.max_tokens)
