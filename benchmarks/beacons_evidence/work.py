"""The list of work: damage, filter, weigh, train, judge; each finished piece is a line, so that a killed run goes on.

Damage has the seed of the training, so that its lot is part of the spread over seeds. A method's learning rate is
chosen by the loss on validation rows, in plain training on sound rows, with a seed that no result has.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.beacons_evidence.arms import FILTERS, GRID, METHODS, PLAIN, RATES, SKETCH, WEIGHTINGS, Arm, arms
from benchmarks.filter_damage import sound_rows
from benchmarks.selection_evidence.materials import Material
from benchmarks.selection_evidence.results import GRID_SEED
from benchmarks.selection_evidence.store import Store
from benchmarks.selection_evidence.work import BATCH, ITEM_COLUMNS, SEEDS
from knowtune.common.files import text_digest
from knowtune.data.label_noise import plant
from knowtune.evaluation.leaderboard import Results, beside_base, compute_metrics
from knowtune.filters import FILTERS as FILTER_CLASSES
from knowtune.filters.base import Seen
from knowtune.filters.chain import Limits, run_filters
from knowtune.gradients.sketches import Sketcher, sketch_rows
from knowtune.methods import METHODS as METHOD_CLASSES
from knowtune.methods.base import MaskedMethod, Method
from knowtune.registry import member_class
from knowtune.selectors.fish import Fish
from knowtune.selectors.pools import ModelPool
from knowtune.semantics.representations.input_embedding import InputEmbedding
from knowtune.tasks.answers import Decoding, answer_distances, answer_rows
from knowtune.tasks.right_answers import right_answers
from knowtune.training.fit import encode, fit, seed_everything
from knowtune.training.reweighting import Plan, open_reweighting
from knowtune.training.weights import Weighting

METRICS = ["generalisation", "reliability", "forgotten", "text_drift", "pushed_away", "pushed_by"]
ASKING = {"max_new_tokens": 16, "extra_tokens": 4}


@dataclass(frozen=True)
class Setting:
    """What tells one training from another within a task."""

    method: str
    filter: str
    weighting: str
    wrong: float
    seed: int
    learning_rate: float


class Bench:
    """All the work of one task.

    Args:
        material: the task; its rows are sound.
        folder: where finished pieces are kept.
        num_seeds: so many of the seeds, the first ones.
    """

    def __init__(self, material: Material, folder: Path, num_seeds: int = len(SEEDS)) -> None:
        """Open the store; judge the pristine base, which every result is held against."""
        self.material, self.base, self.seeds = material, material.base, SEEDS[:num_seeds]
        self.tokenizer, self.model = self.base.tokenizer(), self.base.model()
        self.vectors = InputEmbedding().open(self.model, self.tokenizer)
        self.store = Store(folder, material.name)
        self.identity = text_digest(material.described())[:16]
        self.pristine = self.judge(self.model)
        if (key := self.key("base")) not in self.store.records:
            metrics = compute_metrics(METRICS, beside_base(self.pristine, self.pristine, self.base.task))
            kinds = material.items["kind"].value_counts().to_dict()
            sizes = {"rows": len(material.rows), "steps": material.steps, "items": kinds, "texts": len(material.texts)}
            self.store.add({"key": key, "what": "base", "identity": self.identity, "metrics": metrics, "sizes": sizes})

    def key(self, what: Any) -> str:
        """Name a piece by all that decides it."""
        if not isinstance(what, Setting):
            return text_digest([self.identity, what])[:24]
        options = METHODS[what.method], FILTERS[what.filter], WEIGHTINGS[what.weighting], SKETCH, ASKING
        return text_digest([self.identity, asdict(what), options, self.material.rows["target"].tolist()])[:24]

    def run(self) -> None:
        """Do what is not done yet: the grid, then seed after seed, all arms of a seed at all rates of damage."""
        started, done = time.monotonic(), 0
        for setting in self.settings():
            if self.key(setting) not in self.store.records:
                self.train(setting)
                done += 1
                pace = (time.monotonic() - started) / done
                print(f"{self.material.name}: {len(self.store.records)} pieces, {pace:.0f} s each", flush=True)

    def settings(self) -> Iterator[Setting]:
        """Yield what to train, in order; a method's learning rate is looked up when its grid is done."""
        for method in METHODS:
            yield from self.grid(method)
        for seed in self.seeds:
            for wrong in RATES[self.material.name]:
                for arm in arms():
                    yield Setting(arm.method, arm.filter, arm.weighting, wrong, seed, self.learning_rate(arm.method))

    def grid(self, method: str) -> list[Setting]:
        """List the trainings that a method's learning rate is chosen by."""
        return [Setting(method, *PLAIN, 0.0, GRID_SEED, rate) for rate in GRID]

    def learning_rate(self, method: str) -> float:
        """Choose by the loss on the validation rows."""
        tried = [self.store.records[self.key(setting)] for setting in self.grid(method)]
        return float(min(tried, key=lambda record: record["validation"])["learning_rate"])

    @cache  # noqa: B019 - lives as long as the process
    def damaged(self, wrong: float, seed: int) -> tuple[pd.DataFrame, set[str], Seen]:
        """Plant wrong targets; ask the base, and sketch its gradients."""
        rates = {"wrong": wrong, "contradictions": 0.0, "duplicates": 0.0, "empties": 0.0}
        rows, planted = plant(self.material.rows, rates, seed)
        distances = self.base.task.evaluator.distances(
            self.vectors, self.tokenizer, self.answers.reindex(rows["id"]).tolist(), right_answers(rows),
            ASKING["extra_tokens"],
        )  # fmt: skip
        answers = pd.DataFrame({"id": rows["id"], "distance": distances}, index=rows.index)
        with Sketcher(self.model, **SKETCH) as sketcher:
            encoded = self.base.task.encode(self.tokenizer, rows)
            sketches = sketch_rows(sketcher, encoded, self.base.task, 32, "sketches", rows["id"].tolist())
        return rows, set(planted["id"]), Seen(answers, sketches.numpy())

    @cached_property
    def answers(self) -> pd.Series[str]:
        """Give the base's answer to every row, by id, uncut: a limit by the sound target would tell its length."""
        rows = self.material.rows
        found = self.base.task.evaluator.answer(
            self.model, self.tokenizer, rows, BATCH, ASKING["max_new_tokens"], "answers"
        )
        return pd.Series(found, index=rows["id"], dtype="str")

    def train(self, setting: Setting) -> None:
        """Train and judge one setting."""
        rows, wrong, seen = self.damaged(setting.wrong, setting.seed)
        chain = [
            (name, member_class(FILTER_CLASSES, "filter", name)(**o)) for name, o in FILTERS[setting.filter].items()
        ]
        kept, dropped = run_filters(rows, seen, chain, "filter", Limits(allow_lost=True))
        seed_everything(setting.seed)
        method, mask = self.method(setting, kept)
        encoded = encode(self.tokenizer, kept, self.base, self.material.name)
        weighting, reweighting = WEIGHTINGS[setting.weighting], None
        if weighting is not None:
            plan = Plan(Weighting(**weighting), InputEmbedding(), **ASKING, where="evidence")
            reweighting = open_reweighting(plan, kept, encoded, self.base, self.tokenizer, self.material.name)
        seed_everything(setting.seed)  # before the adapter exists: its random start is part of the result
        model = self.base.model()
        masked = isinstance(method, MaskedMethod)
        model = method.attach_masked(model, mask, None) if masked else method.attach(model)  # type: ignore[attr-defined]
        with tempfile.TemporaryDirectory() as work:
            cpu = time.process_time()
            fitted = fit(
                model, encoded, None, self.material.recipe(len(kept), setting.learning_rate), self.base.compute,
                self.base.task, seed=setting.seed, work=Path(work), method=method, reweighting=reweighting,
                label=str(setting),
            )  # fmt: skip
            cpu = time.process_time() - cpu
        judged = beside_base(self.judge(fitted.model), self.pristine, self.base.task)
        validation = self.base.task.evaluator.judge(
            fitted.model, self.tokenizer, self.material.validation, BATCH, "validation"
        )
        self.store.add({
            "key": self.key(setting), "what": "training", "identity": self.identity, **asdict(setting),
            "num_rows": len(kept), "num_wrong": len(wrong), "wrong_dropped": len(wrong & set(dropped["id"])),
            "metrics": compute_metrics(METRICS, judged), "validation": float(validation["loss"].mean()), "cpu": cpu,
        })  # fmt: skip

    def method(self, setting: Setting, kept: pd.DataFrame) -> tuple[Method, Mapping[str, torch.Tensor]]:
        """Make the method, and the mask where it trains one: of the kept rows."""
        chosen = METHODS[setting.method]
        method: Method = member_class(METHOD_CLASSES, "method", chosen["method"])(**chosen["options"])
        if not isinstance(method, MaskedMethod):
            return method, {}
        encoded = self.base.task.encode(self.tokenizer, kept)
        pool = ModelPool(kept, encoded, self.model, self.base.task, ["*.self_attn.*", "*.mlp.*"], seed=setting.seed)
        selector = Fish(budget=0.1, samples=128, granularity="parameter")
        return method, selector.choose(pool, setting.seed).mask or {}

    def judge(self, model: torch.nn.Module) -> Results:
        """Judge the items, read the texts, and let the model answer the new facts."""
        material, task = self.material, self.base.task
        judged = task.evaluator.judge(model, self.tokenizer, material.items, BATCH, f"{material.name}: items")
        new = material.items[material.items["kind"] != "locality"]
        decoding, known = Decoding(BATCH, **ASKING), judged.loc[new.index, "answer"]
        answers = answer_rows(task.evaluator, model, self.tokenizer, new, decoding, "answers", known=known)
        distances = answer_distances(task.evaluator, self.tokenizer, new, answers, self.vectors, decoding)
        judged = judged.assign(answer=answers, distance=distances)
        items = pd.concat([material.items[ITEM_COLUMNS], judged], axis=1)
        texts = material.texts
        read, states = task.evaluator.read_texts(
            model, self.tokenizer, texts["text"].tolist(), BATCH, material.max_tokens, f"{material.name}: texts"
        )
        return Results(items, pd.concat([texts[["id"]], read], axis=1), states)


def sound(material: Material, project: Path) -> Material:
    """Undo the damage that the embedded task's rows carry; ParaRel's are sound, and are read twice: that is enough."""
    if material.name != "embedded":
        return replace(material, epochs=2)
    return replace(material, rows=sound_rows(project / "data" / "prepared"))


def plain(arm: Arm) -> Arm:
    """Give the arm that another one is held against: the same method, nothing dropped and nothing weighed."""
    return Arm(arm.method, *PLAIN)
