from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common import parts
from knowtune.common.files import read_rows, write_rows
from knowtune.data.contract import ANSWERS, check
from knowtune.gradients.sketches import Sketcher, sketch_rows
from knowtune.tasks.language_model_evaluator import LanguageModelEvaluator
from stages import answers as stage
from stages.core.params import load_params
from stages.core.schema import Params
from tests.unit.helpers import counted_calls, fact_rows, review_rows, row, table

ROOT = Path(__file__).resolve().parents[3]
Run = Callable[..., Path]


def settings(task: dict[str, Any] | None = None, **changes: Any) -> Params:
    """Give the default params with a few of their sections changed."""
    raw = load_params(ROOT / "params.yaml").model_dump(by_alias=True, exclude_unset=True)
    raw["task"] = task or raw["task"]
    for section, values in changes.items():
        raw[section] = {**raw[section], **values}
    return Params.model_validate(raw)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give a run of the stage: rows, base and changes in, the out folder out."""
    monkeypatch.chdir(tmp_path)

    def go(rows: pd.DataFrame, base: Base, out: str = "out", **changes: Any) -> Path:
        write_rows(tmp_path / "train.jsonl", rows)
        args = argparse.Namespace(train=tmp_path / "train.jsonl", base=base.folder, out=tmp_path / out)
        stage.run(args, settings(**{"semantics": {"path": str(base.folder)}, **changes}))
        return tmp_path / out

    return go


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


SKETCH = {"sketch": {"dimensions": 32, "batch_size": 4, "seed": 0}}


def test_one_answer_per_row_in_their_order(run: Run, base: Base, capsys: pytest.CaptureFixture[str]) -> None:
    rows = fact_rows()
    out = run(rows, base, answers={"sketch": None})
    assert [path.name for path in out.iterdir()] == ["answers.jsonl"]
    found = check(read_rows(out / "answers.jsonl"), ANSWERS, "answers")
    assert found["id"].tolist() == rows["id"].tolist()
    assert found.columns.tolist() == ["id", "answer", "correct", "num_tokens", "distance"]
    assert (found["distance"][found["correct"]] == 0).all(), "a right answer is at no distance"
    assert (found["distance"][~found["correct"]] > 0).all()
    assert 5 <= found["correct"].sum() < len(rows)
    assert (
        f"answers: {len(rows)} rows, {found['correct'].sum()} answers begin with the target" in capsys.readouterr().out
    )


def test_a_base_that_does_not_stop_is_judged_by_what_it_says_first(run: Run, base: Base) -> None:
    rows = fact_rows()
    short = read_rows(run(rows, base, "short", answers={"extra_tokens": 0}) / "answers.jsonl")
    long = read_rows(run(rows, base, "long", answers={"extra_tokens": 40, "max_new_tokens": 20}) / "answers.jsonl")
    assert all(b.startswith(a) for a, b in zip(short["answer"], long["answer"], strict=True))
    assert long["distance"][short["correct"]].tolist() == [0.0] * int(short["correct"].sum())


def test_right_answers_of_several_lines(run: Run, base: Base) -> None:
    rows = fact_rows().head(2)
    told = read_rows(run(rows, base) / "answers.jsonl")["answer"].tolist()
    wrong = rows.assign(target="qqq", aliases=[f"zzz\n{told[0]}", ""])
    found = read_rows(run(wrong, base, "again") / "answers.jsonl")
    assert found["correct"].tolist() == [True, False]
    assert found["distance"].tolist() == [0.0, pytest.approx(found["distance"][1])]
    assert found["distance"][1] > 0


def test_empty_targets_are_at_distance_one(run: Run, base: Base) -> None:
    found = read_rows(run(table(row("a", "Ada lives in ", ""), row("b", "x", "y")), base) / "answers.jsonl")
    assert found["distance"][0] == 1
    assert not found["correct"][0]


def test_results_do_not_depend_on_parts_or_on_being_killed(
    run: Run, base: Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = contents(run(fact_rows(), base, "whole", answers=SKETCH))
    monkeypatch.setattr(parts, "SIZE", 7)
    (tmp_path / ".work").rename(tmp_path / "gone")
    with counted_calls(parts, "whole", 3, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):  # type: ignore[arg-type]
        run(fact_rows(), base, "cut", answers=SKETCH)
    assert not (tmp_path / "cut").exists()
    sizes = []
    real = LanguageModelEvaluator.answer
    monkeypatch.setattr(
        LanguageModelEvaluator,
        "answer",
        lambda self, m, t, rows, *rest: sizes.append(len(rows)) or real(self, m, t, rows, *rest),
    )
    again = contents(run(fact_rows(), base, "again", answers=SKETCH))
    assert sizes == [7, 3], "two of four parts were finished"
    assert again["answers.jsonl"] == whole["answers.jsonl"]
    one, other = (np.load(tmp_path / name / "sketches.npy") for name in ("whole", "again"))
    assert np.allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(one).max())


def test_killed_while_sketching(run: Run, base: Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parts, "SIZE", 7)
    whole = contents(run(fact_rows(), base, "whole", answers=SKETCH))
    (tmp_path / ".work").rename(tmp_path / "gone")
    with counted_calls(np, "save", 3, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):  # type: ignore[arg-type]
        run(fact_rows(), base, "cut", answers=SKETCH)
    with counted_calls(np, "save", 0, KeyboardInterrupt()) as calls:  # type: ignore[arg-type]
        again = contents(run(fact_rows(), base, "again", answers=SKETCH))
    assert calls == [2]
    assert again == whole


def test_sketches_are_those_of_the_rows(
    run: Run, base: Base, tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = fact_rows()
    found = np.load(run(rows, base, answers=SKETCH) / "sketches.npy", mmap_mode="r")
    assert (found.shape, found.dtype) == ((len(rows), 32), np.float32)
    with Sketcher(base.model(), 32, 0) as sketcher:
        expected = sketch_rows(sketcher, base.task.encode(tokenizer, rows), base.task, 4, "x")
    assert np.array_equal(found, expected.numpy())
    assert "answers: 24 gradients sketched in 32 numbers each" in capsys.readouterr().out


def test_sketching_asks_nothing_again(run: Run, base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = contents(run(fact_rows(), base, "plain"))
    monkeypatch.setattr(LanguageModelEvaluator, "answer", None)
    assert contents(run(fact_rows(), base, "sketched", answers=SKETCH))["answers.jsonl"] == plain["answers.jsonl"]


def test_all_answers_empty_is_said(run: Run, base: Base, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(LanguageModelEvaluator, "answer", lambda self, model, tokenizer, rows, *rest: [""] * len(rows))
    found = read_rows(run(fact_rows(), base) / "answers.jsonl")
    assert found["distance"].tolist() == [1.0] * 24
    assert "the base answers nothing to any prompt, so that all distances are 1" in capsys.readouterr().err


class TestHeads:
    REVIEWS: ClassVar[dict[str, Any]] = {"kind": "classification", "labels": ["bad", "good"]}

    def test_a_classifiers_distance_is_between_names_of_labels(self, run: Run, encoder: Base) -> None:
        out = run(review_rows(), encoder, task=self.REVIEWS, answers=SKETCH)
        found = check(read_rows(out / "answers.jsonl"), ANSWERS, "answers")
        assert set(found["answer"]) <= {"bad", "good"}
        assert (found["distance"][found["correct"]] == 0).all()
        wrong = found["distance"][~found["correct"]]
        assert len(wrong)
        assert wrong.nunique() == 1
        assert wrong.iloc[0] > 0.1
        assert np.load(out / "sketches.npy").shape == (24, 32)

    def test_a_score_has_no_distance(self, run: Run, encoder: Base) -> None:
        rows = review_rows().assign(target=[str(i / 2) for i in range(24)])
        out = run(rows, encoder, task={"kind": "regression"}, answers=SKETCH)
        assert '"distance":null' in (out / "answers.jsonl").read_text()
        assert check(read_rows(out / "answers.jsonl"), ANSWERS, "answers")["distance"].isna().all()

    def test_a_new_head_is_the_same_each_time(self, run: Run, encoder: Base) -> None:
        one = contents(run(review_rows(), encoder, "one", task=self.REVIEWS))
        (Path.cwd() / ".work").rename("gone")
        torch.manual_seed(17)
        assert contents(run(review_rows(), encoder, "two", task=self.REVIEWS)) == one
