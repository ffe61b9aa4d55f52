from __future__ import annotations

from typing import Any

import pandas as pd

from knowtune.evaluation.leaderboard import Entry
from knowtune.evaluation.report.contents import Baseline, Model, Prepared, Report, make_report
from tests.unit.helpers import REVIEWS, TASK

ROWS = pd.DataFrame({"id": ["a", "b"], "prompt": ["p", "q"], "text_pair": ["", "pair"], "target": ["good", "good"]})
CURVE = pd.DataFrame({"seed": [0], "step": [1], "split": ["train"], "loss": [0.5], "other": [1]})
SUMMARY = {"lora": {"known": {"mean": 0.5, "half_width": None, "n": 1}}}


def examples(distance: float) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "id": "b", "fact": "f", "kind": "reliability", "target": "good", "answer": "bad", "distance": distance,
                "base_answer": "good", "base_distance": 0.0, "seed": 0,
            }
        ]
    )  # fmt: skip


def report(metrics: list[str], kind: str = "knowledge", task: Any = TASK) -> Report:
    prepared = Prepared(ROWS, ROWS.assign(kind="generalisation"), ROWS[:0].assign(kind=""), {"cautions": ["of data"]})
    lora, soup = Entry("lora", "lora on all", 5, 1e-6, SUMMARY["lora"]), Entry("soup", "ties of lora", None, None, {})
    models = [Model(lora, examples(1.0), CURVE), Model(soup, examples(0.0), None)]
    baseline = Baseline({"known": 0.25}, (1, 4), ["of the base"])
    return make_report(metrics, kind, task, prepared, baseline, models, {}, {"ird": "<svg/>"})


def test_the_base_stands_first_and_models_follow_in_their_order() -> None:
    made = report(["known"])
    assert [entry.name for entry in made.entries] == ["base", "lora", "soup"]
    assert made.entries[0].summary == {"known": {"mean": 0.25, "half_width": None, "n": 1}}
    assert made.axes == ("forgotten", "generalisation")
    assert made.curves.to_dict("records") == [{"run": "lora", "seed": 0, "split": "train", "step": 1, "loss": 0.5}]
    assert (made.known, made.cautions) == ((1, 4), ["of data", "of the base"])


def test_a_classification_has_its_constant_baseline() -> None:
    made = report(["accuracy"], "classification", REVIEWS)
    assert [(entry.name, entry.constant) for entry in made.entries][:2] == [("base", False), ("majority", True)]
    assert made.entries[1].summary["accuracy"]["mean"] == 1.0


def test_pushed_answers_are_shown_where_a_metric_reads_answers() -> None:
    assert report(["known"]).pushed is None
    pushed = report(["pushed_away"]).pushed
    assert pushed is not None
    assert list(pushed.worst) == ["lora"]
    assert pushed.worst["lora"][0]["prompt"] == "q\npair"
