"""Answers and distances of rows: `knowtune.tasks.answers.answered` and `changes`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.evaluation.push_changes import changes
from knowtune.semantics.distance import text_distances
from knowtune.semantics.representations.input_embedding import InputEmbedding
from knowtune.tasks.answers import answered
from tests.unit.helpers import COLOURS, REVIEWS, TASK, fact_rows, row, table


def vectors(texts: Sequence[str]) -> torch.Tensor:
    """Turn by an angle that the text says; other texts have no length."""
    angles = [float(text) if text.isdigit() else math.nan for text in texts]
    turned = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in angles]
    return torch.tensor(turned).nan_to_num(0.0)


class Parrot:
    """A task whose model answers with what stands in the prompt, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answers(self, model: Any, tokenizer: Any, rows: pd.DataFrame, *settings: Any) -> list[str]:
        self.asked += rows["id"].tolist()
        self.extra_tokens = settings[-1]
        return rows["prompt"].tolist()

    def distances(
        self, vectors: Any, tokenizer: Any, answers: list[str], targets: list[list[str]], extra_tokens: int
    ) -> list[float]:
        return text_distances(vectors, answers, targets)


def ask(rows: pd.DataFrame, said: pd.Series[str] | None = None) -> tuple[pd.DataFrame, list[str]]:
    task: Any = Parrot()
    nothing: Any = None
    found = answered(
        task, nothing, nothing, rows, vectors, batch_size=2, max_new_tokens=3, extra_tokens=0, label="x", said=said
    )
    return found, task.asked


def test_by_hand_and_on_the_index_of_the_rows() -> None:
    rows = table(row("a", "90", "0"), row("b", "60", "0"), row("c", "7", "7")).set_axis([5, 3, 9])
    found, asked = ask(rows)
    assert found.index.tolist() == [5, 3, 9]
    assert found["answer"].tolist() == ["90", "60", "7"]
    assert found["distance"].tolist() == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)
    assert asked == ["a", "b", "c"]


def test_the_nearest_right_answer_counts() -> None:
    found, _ = ask(table(row("a", "90", "0", aliases="30\n200")))
    assert found["distance"].tolist() == pytest.approx([0.5], abs=1e-6)


def test_what_is_known_already_is_not_asked() -> None:
    rows = table(row("a", "90", "0"), row("b", "60", "0"), row("c", "30", "0")).set_axis([5, 3, 9])
    found, asked = ask(rows, pd.Series(["0", None, "180"], index=rows.index))
    assert asked == ["b"]
    assert found["answer"].tolist() == ["0", "60", "180"]
    assert found["distance"].tolist() == pytest.approx([0.0, 0.5, 2.0], abs=1e-6)


@pytest.mark.parametrize(("whole", "extra"), [(False, 4), (True, None)])
def test_whole_answers_have_no_limit_by_what_is_right(whole: bool, extra: int | None) -> None:
    task: Any = Parrot()
    nothing: Any = None
    options = {"batch_size": 2, "max_new_tokens": 3, "extra_tokens": 4, "label": "x"}
    answered(task, nothing, nothing, table(row("a", "90", "0")), vectors, **options, whole=whole)  # type: ignore[arg-type]
    assert task.extra_tokens == extra


def test_nothing_is_asked_where_all_is_known() -> None:
    rows = table(row("a", "90", "0"))
    assert ask(rows, pd.Series(["90"], index=rows.index))[1] == []


def test_no_rows() -> None:
    found, asked = ask(fact_rows()[:0])
    assert (len(found), found.columns.tolist(), asked) == (0, ["answer", "distance"], [])
    assert ask(fact_rows()[:0], pd.Series([], dtype="str"))[1] == []


def test_an_empty_answer_is_unrelated() -> None:
    rows = table(row("a", "x", "0"))
    assert ask(rows, pd.Series([""], index=rows.index))[0]["distance"].tolist() == [1.0]


@pytest.mark.parametrize("extra", [0, 5])
def test_what_judging_shows_is_what_the_model_writes(base: Base, tokenizer: Any, extra: int) -> None:
    model, names = base.model(), fact_rows().head(8)
    rows = table(*(row(f"{i}{c}", p, c) for i, p in enumerate(names["prompt"]) for c in COLOURS))
    of_base = InputEmbedding().opened(model, tokenizer)
    said = TASK.judge(model, tokenizer, rows, 8, "x")["said"]
    assert 0 < said.notna().sum() < len(rows)
    whole, part = (
        answered(
            TASK,
            model,
            tokenizer,
            rows,
            of_base,
            batch_size=8,
            max_new_tokens=8,
            extra_tokens=extra,
            label="x",
            said=given,
        )
        for given in (None, said)
    )
    pd.testing.assert_frame_equal(whole, part)
    assert (part["distance"] == 0).tolist() == (part["answer"] == rows["target"]).tolist()
    assert {len(tokenizer(answer)["input_ids"]) for answer in part["answer"]} != {0}


def test_a_label_is_compared_by_its_words(encoder: Base, words: Any) -> None:
    rows = table(row("a", "the film was good", "good"), row("b", "the film was bad", "bad"))
    of_base = InputEmbedding().opened(encoder.model(), words)
    said = pd.Series(["good", "good"])
    found = answered(
        REVIEWS,
        encoder.model(),
        words,
        rows,
        of_base,
        batch_size=2,
        max_new_tokens=1,
        extra_tokens=0,
        label="x",
        said=said,
    )
    assert found["distance"].iloc[0] == 0
    assert 0 < found["distance"].iloc[1] <= 2


class TestChanges:
    def test_by_hand(self) -> None:
        items = pd.DataFrame({"distance": [1.0, 0.25, None, 0.5], "base_distance": [0.5, 0.5, 0.0, None]})
        assert changes(items.set_axis([4, 2, 1, 3])).to_dict() == {4: 0.5, 2: -0.25}

    def test_items_that_were_not_asked(self) -> None:
        assert len(changes(pd.DataFrame({"loss": [1.0]}))) == 0
