"""Models in a real MLflow store, loaded back in a process of their own: today's, kept ones, and older ones."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pytest

from knowtune.checkpoints.base import Base
from knowtune.methods.imsm.method import Imsm
from knowtune.methods.lora import Lora
from knowtune.serving import load
from knowtune.tasks.regression import Regression
from knowtune.training.run import Job, train_seed
from tests.unit.helpers import REVIEWS, TASK, fact_rows, recipe, review_rows
from tests.unit.stages.tracking.keep_models import KEPT

ROOT = Path(__file__).resolve().parents[4]
SERVED = ROOT / "stages/tracking/served.py"
OLDER = ROOT / "tests/data/older"  # served.py as it was before `knowtune.serving`
ANSWERS: dict[str, dict[str, str]] = json.loads((KEPT / "answers.json").read_text())
Trained: TypeAlias = dict[str, tuple[Path, pd.DataFrame]]


@pytest.fixture(scope="module")
def trained(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Give an adapter of each task, and one that cannot be folded, and questions for each."""
    folder, reviews = tmp_path_factory.mktemp("adapters"), review_rows()
    scores = reviews.assign(target=[f"{i % 4}.5" for i in range(len(reviews))])
    lora: dict[str, Any] = {"rank": 4, "alpha": 16.0}
    woven = Imsm(inner={"method": "lora", "options": lora})  # type: ignore[arg-type]
    given = {
        "knowledge": (TASK, fact_rows().head(8), Lora(**lora)),
        "classification": (REVIEWS, reviews, Lora(**lora)),
        "regression": (Regression(), scores, Lora(**lora)),
        "woven": (TASK, fact_rows().head(8), woven),
    }
    made = {}
    for name, (task, rows, method) in given.items():
        options = recipe(learning_rate=0.01, epochs=4, batch_size=8)
        kind = "imsm" if method is woven else "lora"
        job = Job("x", kind, method, options, seed=0, rows=rows, validation=rows.head(0), mask=None)
        train_seed(job, replace(base, task=task), folder / name, folder / f"{name}-work")
        made[name] = (folder / name, rows[["prompt"]].head(6).set_axis(["question"], axis=1))
    return made


@pytest.fixture(scope="module")
def loaded(base: Base, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Load kept models, log the adapters and load them, in one process that has MLflow."""
    rows = [[{"question": question} for question in questions] for questions in ANSWERS.values()]
    what = {
        "kept": [[str(KEPT / name), str(KEPT / "base"), asked] for name, asked in zip(ANSWERS, rows, strict=True)],
        "store": str(tmp_path_factory.mktemp("store")),
        "base": str(base.folder),
        "adapters": [[str(folder), questions.to_dict("records")] for folder, questions in trained.values()],
        "older": [str(OLDER / f"{name}.py") for name in ("flat", "rooms")],
    }
    command = [sys.executable, "-W", "ignore", "-m", "tests.unit.stages.tracking.log_models"]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(what), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def test_kept_models_answer_as_on_the_day_they_were_logged(loaded: dict[str, Any]) -> None:
    assert loaded["kept"] == [list(answers.values()) for answers in ANSWERS.values()]


def test_a_model_of_each_kind_goes_through_the_store(loaded: dict[str, Any], base: Base, trained: Trained) -> None:
    for (name, (folder, questions)), answers in zip(trained.items(), loaded["logged"], strict=True):
        wanted = load(folder, base.folder).predict(questions, max_new_tokens=8)
        assert answers == (pytest.approx(wanted) if name == "regression" else wanted)
        assert {type(answer) for answer in answers} == {float if name == "regression" else str}
    assert len(set(loaded["logged"][0])) > 1


def test_a_model_that_was_logged_half_is_gone_on_with(loaded: dict[str, Any], trained: Trained) -> None:
    assert loaded["statuses"] == ["READY"] * len(trained)


def test_models_that_older_versions_logged_are_renewed(loaded: dict[str, Any]) -> None:
    flat, rooms = loaded["older"]
    assert flat[0] == "ModuleNotFoundError: No module named 'knowtune.artefacts'"
    assert re.match(r"(AttributeError|ImportError|ModuleNotFoundError): ", rooms[0])
    for _, renewed, after in (flat, rooms):
        assert renewed == [loaded["first"]]
        assert after == loaded["logged"][0]


@pytest.mark.parametrize("file", [SERVED, *KEPT.glob("*/served.py")], ids=lambda file: file.parent.name)
def test_what_mlflow_keeps_imports_the_door_alone(file: Path) -> None:
    tree = ast.parse(file.read_text())
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in names if name.partition(".")[0] in ("knowtune", "stages", "cli", "flows")} == {
        "knowtune.serving"
    }
