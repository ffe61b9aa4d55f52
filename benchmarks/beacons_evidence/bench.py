"""The trainings behind docs/evidence-beacons.md: inject label noise, filter, weigh, train, judge.

Label noise has the seed of the training, so that it is part of the spread over seeds. A method's learning rate is
chosen by generalisation, in plain training without noise, with a seed that no result has. Plain training and a few arms
have lower rates, too: what they forget is compared where they have learned as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.beacons_evidence.arms import (
    CURVED,
    CURVES,
    FILTERS,
    GRID,
    METHODS,
    PLAIN,
    RATES,
    SKETCH,
    WEIGHTINGS,
    arms,
)
from benchmarks.evidence.bench import BATCH, SEEDS, Bench
from benchmarks.evidence.comparisons import GRID_SEED
from benchmarks.evidence.curves import chosen_rate
from benchmarks.evidence.materials import Material
from benchmarks.filter_noise import rows_without_noise
from knowtune.common.files import text_digest
from knowtune.data.label_noise import inject
from knowtune.filters import FILTERS as FILTER_CLASSES
from knowtune.filters.base import Seen
from knowtune.filters.chain import Limits, run_filters
from knowtune.gradients.sketches import Sketcher, sketch_rows
from knowtune.methods import METHODS as METHOD_CLASSES
from knowtune.methods.base import Method
from knowtune.registry import member_class
from knowtune.selectors.fish import Fish
from knowtune.selectors.pools import ModelPool
from knowtune.semantics.representations.input_embedding import InputEmbedding
from knowtune.tasks.answers import Decoding, answer_distances, answer_rows
from knowtune.tasks.right_answers import right_answers
from knowtune.training.dataset import encode
from knowtune.training.fit import seed_everything
from knowtune.training.reweighting import Plan, open_reweighting
from knowtune.training.weights import Weighting

METRICS = ["generalisation", "reliability", "forgotten", "text_drift", "pushed_away", "pushed_by"]
DECODING = {"max_new_tokens": 16, "extra_tokens": 4}


@dataclass(frozen=True)
class Setting:
    """What tells one training from another within a task."""

    method: str
    filter: str
    weighting: str
    wrong: float
    seed: int
    learning_rate: float


class BeaconsBench(Bench):
    """All the work of one task.

    Args:
        material: the task; its rows have no label noise.
        folder: where finished pieces are kept.
        num_seeds: so many of the seeds, the first ones.
    """

    net_forgotten = True

    def __init__(self, material: Material, folder: Path, num_seeds: int = len(SEEDS)) -> None:
        """See `Bench`."""
        super().__init__(material, folder, METRICS, num_seeds)

    def prepare(self) -> None:
        """Open the representation that distances are measured in."""
        self.vectors = InputEmbedding().open(self.model, self.tokenizer)

    def key(self, what: Any) -> str:
        """Name a piece by all that decides it."""
        if not isinstance(what, Setting):
            return text_digest([self.identity, what])[:24]
        options = METHODS[what.method], FILTERS[what.filter], WEIGHTINGS[what.weighting], SKETCH, DECODING
        return text_digest([self.identity, asdict(what), options, self.material.rows["target"].tolist()])[:24]

    def settings(self) -> Iterator[Setting]:
        """Yield what to train, in order; a method's learning rate is looked up when its grid is done."""
        for method in METHODS:
            yield from self.grid(method)
        yield from self.of_seeds({method: self.learning_rate(method) for method in METHODS})

    def left(self) -> int:
        """Count the trainings that are still to do; a rate that is not chosen yet stands for any."""
        grids = [setting for method in METHODS for setting in self.grid(method)]
        whole = all(self.key(setting) in self.store.records for setting in grids)
        rates = {method: self.learning_rate(method) if whole else 0.0 for method in METHODS}
        return sum(self.key(setting) not in self.store.records for setting in [*grids, *self.of_seeds(rates)])

    def of_seeds(self, learning_rates: Mapping[str, float]) -> Iterator[Setting]:
        """Yield seed after seed, all arms of a seed at all rates of label noise."""
        for seed in self.seeds:
            for wrong in RATES[self.material.name]:
                for arm in arms():
                    yield Setting(arm.method, arm.filter, arm.weighting, wrong, seed, learning_rates[arm.method])
                for arm, rate in product(CURVED, CURVES[self.material.name]):
                    yield Setting(arm.method, arm.filter, arm.weighting, wrong, seed, rate)

    def grid(self, method: str) -> list[Setting]:
        """List the trainings that a method's learning rate is chosen by."""
        return [Setting(method, *PLAIN, 0.0, GRID_SEED, rate) for rate in GRID]

    def learning_rate(self, method: str) -> float:
        """Choose by the measure that is reported."""
        tried = [self.store.records[self.key(setting)] for setting in self.grid(method)]
        return chosen_rate({record["learning_rate"]: record["metrics"] for record in tried}, self.metrics[0])

    @cache  # noqa: B019 - lives as long as the process
    def noisy_rows(self, wrong: float, seed: int, sketched: bool) -> tuple[pd.DataFrame, set[str], Seen]:
        """Inject wrong targets; let the base answer, and sketch its gradients where a filter reads them."""
        rates = {"wrong": wrong, "contradictions": 0.0, "duplicates": 0.0, "empties": 0.0}
        rows, injected = inject(self.material.rows, rates, seed)
        distances = self.base.task.evaluator.distances(
            self.vectors, self.tokenizer, self.answers.reindex(rows["id"]).tolist(), right_answers(rows),
            DECODING["extra_tokens"],
        )  # fmt: skip
        answers = pd.DataFrame({"id": rows["id"], "distance": distances}, index=rows.index)
        if not sketched:
            return rows, set(injected["id"]), Seen(answers)
        with Sketcher(self.model, **SKETCH) as sketcher:
            encoded = self.base.task.encode(self.tokenizer, rows)
            sketches = sketch_rows(sketcher, encoded, self.base.task, 32, "sketches", rows["id"].tolist())
        return rows, set(injected["id"]), Seen(answers, sketches.numpy())

    @cached_property
    def answers(self) -> pd.Series[str]:
        """Return the base's answer to every row, by id, uncut: a limit by the right target would tell its length."""
        rows = self.material.rows
        answers = self.base.task.evaluator.answer(
            self.model, self.tokenizer, rows, BATCH, DECODING["max_new_tokens"], "answers"
        )
        return pd.Series(answers, index=rows["id"], dtype="str")

    def train(self, setting: Setting) -> None:
        """Train and judge one setting."""
        rows, wrong, seen = self.noisy_rows(setting.wrong, setting.seed, "interference" in FILTERS[setting.filter])
        chain = [
            (name, member_class(FILTER_CLASSES, "filter", name)(**o)) for name, o in FILTERS[setting.filter].items()
        ]
        kept, dropped = run_filters(rows, seen, chain, "filter", Limits(allow_lost=True))
        seed_everything(setting.seed)
        method, mask = self.method(setting, kept)
        encoded = encode(self.tokenizer, kept, self.base, self.material.name)
        weighting, reweighting = WEIGHTINGS[setting.weighting], None
        if weighting is not None:
            plan = Plan(Weighting(**weighting), InputEmbedding(), **DECODING, where="evidence")
            reweighting = open_reweighting(plan, kept, encoded, self.base, self.tokenizer, self.material.name)
        seed_everything(setting.seed)  # before the adapter exists: its random start is part of the result
        model = self.base.model()
        model = method.attach_masked(model, mask, None) if method.needs_mask else method.attach(model)  # type: ignore[attr-defined]
        fitted, cpu, _ = self.fit(model, encoded, method, setting, len(kept), reweighting=reweighting)
        self.add(
            "training", self.key(setting), **asdict(setting), num_rows=len(kept), num_wrong=len(wrong),
            wrong_dropped=len(wrong & set(dropped["id"])), metrics=self.score(self.judge(fitted.model)),
            validation=self.validate(fitted.model)["loss"], cpu=cpu,
        )  # fmt: skip

    def method(self, setting: Setting, kept: pd.DataFrame) -> tuple[Method, Mapping[str, torch.Tensor]]:
        """Make the method, and the mask where it trains one: of the kept rows."""
        chosen = METHODS[setting.method]
        method: Method = member_class(METHOD_CLASSES, "method", chosen["method"])(**chosen["options"])
        if not method.needs_mask:
            return method, {}
        encoded = self.base.task.encode(self.tokenizer, kept)
        pool = ModelPool(kept, encoded, self.model, self.base.task, ["*.self_attn.*", "*.mlp.*"], seed=setting.seed)
        selector = Fish(budget=0.1, samples=128, granularity="parameter")
        return method, selector.choose(pool, setting.seed).mask or {}

    def judge_examples(self, model: torch.nn.Module) -> pd.DataFrame:
        """Judge the evaluation examples, and let the model answer the new facts."""
        examples, evaluator = self.material.examples, self.base.task.evaluator
        judged = super().judge_examples(model)
        new = examples[examples["kind"] != "locality"]
        decoding, known = Decoding(BATCH, **DECODING), judged.loc[new.index, "answer"]
        answers = answer_rows(evaluator, model, self.tokenizer, new, decoding, "answers", known=known)
        distances = answer_distances(evaluator, self.tokenizer, new, answers, self.vectors, decoding)
        return judged.assign(answer=answers, distance=distances)


def without_noise(material: Material, project: Path) -> Material:
    """Undo the label noise of the embedded task's rows; ParaRel's have none, and are read twice: that is enough."""
    if material.name != "embedded":
        return replace(material, epochs=2)
    return replace(material, rows=rows_without_noise(project / "data" / "prepared"))
