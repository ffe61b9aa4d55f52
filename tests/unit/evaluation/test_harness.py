"""Tasks of lm-evaluation-harness, which is an extra: without it only what does not need it is tested."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.evaluation.harness import HarnessTask, measure_task, task_rows
from knowtune.evaluation.retention import Reading, RetentionSet, beside, changes, measure
from tests.unit.helpers import COLOURS, fact_rows

HATS = fact_rows().query("relation == 'colour'").head(8)
CHOICES = list(dict.fromkeys(COLOURS))
CHOOSE = {
    "task": "hats", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "hats.jsonl"}},
    "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{prompt}}",
    "doc_to_choice": CHOICES, "doc_to_target": "{{label}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}], "num_fewshot": 0,
}  # fmt: skip
WRITE = {
    **CHOOSE, "task": "written", "output_type": "generate_until", "doc_to_target": "{{colour}}",
    "generation_kwargs": {"until": ["."], "max_gen_toks": 8, "do_sample": False},
    "filter_list": [{"name": "plain", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}  # fmt: skip
there = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="the extra `harness` is not installed")
# What the harness and its own libraries warn of; it is theirs.
foreign = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    at = tmp_path / "tasks"
    at.mkdir()
    rows = zip(HATS["prompt"].str.rstrip(), HATS["target"], strict=True)
    records = [{"prompt": prompt, "label": CHOICES.index(colour), "colour": colour} for prompt, colour in rows]
    (at / "hats.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    for config in (CHOOSE, WRITE, {**CHOOSE, "task": "remote", "dataset_path": "super_glue"}):
        chosen = {key: value for key, value in config.items() if config["task"] != "written" or key != "doc_to_choice"}
        YAML(typ="safe").dump(chosen, at / f"{config['task']}.yaml")
    return at


def task(folder: Path, name: str = "hats", metric: str = "acc", **changes: object) -> HarnessTask:
    return HarnessTask("evaluate.retention.x", folder, name, metric, **changes)  # type: ignore[arg-type]


@there
@foreign
def test_rows_are_what_the_task_asks(folder: Path) -> None:
    rows = task_rows(task(folder, max_rows=3))
    assert rows["id"].tolist() == ["hats:0", "hats:1", "hats:2"]
    assert rows["prompt"].tolist() == HATS["prompt"].str.rstrip().head(3).tolist()


@there
@foreign
def test_a_choice_is_right_as_for_a_set_of_labels(base: Base, folder: Path) -> None:
    found = measure_task(task(folder), base.model(), base, 8, "x")
    again = measure_task(task(folder), base.model(), base, 3, "x")
    assert found.equals(again)
    labels = RetentionSet("hats", "classification", HATS.reset_index(drop=True), CHOICES)
    own = measure(labels, base.model(), base, Reading(8, 32), "x")
    assert found["correct"].tolist() == own["correct"].tolist()  # labels of one token each
    assert 0 < found["correct"].sum() < len(found)


@there
@foreign
def test_a_written_answer_ends_where_the_task_says(base: Base, folder: Path) -> None:
    on = task(folder, "written", "exact_match")
    verdicts = measure_task(on, base.model(), base, 8, "x")
    judged = base.task.evaluator.judge(base.model(), base.tokenizer(), HATS, 8, "x")
    assert verdicts["correct"].tolist() == (judged["correct"] & judged["answer"].notna()).tolist()
    rows = RetentionSet("x", "harness", task_rows(on), task=on)
    results = measure(rows, base.model(), base, Reading(8, 32), "x")
    assert results.columns.tolist() == ["id", "fact", "relation", "target", "correct"]
    assert changes(beside(results, results, "x"))["change"] == 0.0


@there
@foreign
def test_what_the_harness_cannot_do_here_is_refused(base: Base, folder: Path) -> None:
    with pytest.raises(UserError, match=r"x.task: got 'hat'; allowed: hats, remote, written; did you mean 'hats'\?"):
        task_rows(task(folder, "hat"))
    with pytest.raises(UserError, match=r"dataset_path: got 'super_glue'; allowed: json, csv, .*; nothing is fetched"):
        task_rows(task(folder, "remote"))
    (folder / "hats.jsonl").write_text('{"colour": "red"}\n')
    with pytest.raises(UserError, match=r"cannot read the task 'hats': UndefinedError: 'prompt' is undefined"):
        task_rows(task(folder))
    (folder / "hats.jsonl").unlink()
    with pytest.raises(UserError, match=r"cannot read the task 'hats': FileNotFoundError: Unable to find '\S+hats"):
        task_rows(task(folder))


@there
@foreign
def test_a_base_at_a_relative_path_can_do_it(base: Base, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base.folder.parent)
    moved = replace(base, folder=Path(base.folder.name))
    assert len(measure_task(task(folder, max_rows=2), moved.model(), moved, 8, "x")) == 2


@there
@foreign
def test_a_metric_must_say_right_or_wrong(base: Base, folder: Path) -> None:
    with pytest.raises(UserError, match=r"x.metric: got 'f1'; allowed: acc"):
        measure_task(task(folder, metric="f1"), base.model(), base, 8, "x")
    with pytest.raises(UserError, match=r"x.filter: got 'strict'; allowed: none$"):
        measure_task(task(folder, filter="strict"), base.model(), base, 8, "x")


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="the extra `harness` is installed")
def test_without_the_extra_it_says_how_to_get_it(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"evaluate.retention.x: lm-evaluation-harness is not installed; `make extra NA"
    ):
        task_rows(task(folder))
