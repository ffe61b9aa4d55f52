"""Answers of rows and their distances: `knowtune.tasks.answers`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.semantics.distance import text_distances
from knowtune.semantics.representations.input_embedding import InputEmbedding
from knowtune.tasks.answers import Decoding, answer_distances, answer_rows
from tests.unit.helpers import COLOURS, REVIEWS, TASK, fact_rows, row, table


def vectors(texts: Sequence[str]) -> torch.Tensor:
    """Turn by the angle that the text is; other texts have no length."""
    angles = [float(text) if text.isdigit() else math.nan for text in texts]
    turned = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in angles]
    return torch.tensor(turned).nan_to_num(0.0)


class Parrot:
    """An evaluator whose model answers with the prompt; it remembers which rows the model answered."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def answer(self, model: Any, tokenizer: Any, rows: pd.DataFrame, *settings: Any) -> list[str]:
        self.ids += rows["id"].tolist()
        self.extra_tokens = settings[-1]
        return rows["prompt"].tolist()

    def distances(
        self, vectors: Any, tokenizer: Any, answers: list[str], targets: list[list[str]], extra_tokens: int
    ) -> list[float]:
        return text_distances(vectors, answers, targets)


def measure(
    evaluator: Any, model: Any, tokenizer: Any, rows: pd.DataFrame, vectors: Any, decoding: Decoding, known: Any = None
) -> pd.DataFrame:
    answers = answer_rows(evaluator, model, tokenizer, rows, decoding, "x", known=known)
    distances = answer_distances(evaluator, tokenizer, rows, answers, vectors, decoding)
    return pd.DataFrame({"answer": answers, "distance": distances})


def parrot(rows: pd.DataFrame, known: pd.Series[str] | None = None) -> tuple[pd.DataFrame, list[str]]:
    evaluator = Parrot()
    return measure(evaluator, None, None, rows, vectors, Decoding(2, 3, 0), known), evaluator.ids


def test_by_hand_and_on_the_index_of_the_rows() -> None:
    rows = table(row("a", "90", "0"), row("b", "60", "0"), row("c", "7", "7")).set_axis([5, 3, 9])
    measured, ids = parrot(rows)
    assert measured.index.tolist() == [5, 3, 9]
    assert measured["answer"].tolist() == ["90", "60", "7"]
    assert measured["distance"].tolist() == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)
    assert ids == ["a", "b", "c"]


def test_the_nearest_right_answer_counts() -> None:
    measured, _ = parrot(table(row("a", "90", "0", aliases="30\n200")))
    assert measured["distance"].tolist() == pytest.approx([0.5], abs=1e-6)


def test_known_answers_are_not_generated() -> None:
    rows = table(row("a", "90", "0"), row("b", "60", "0"), row("c", "30", "0")).set_axis([5, 3, 9])
    measured, ids = parrot(rows, pd.Series(["0", None, "180"], index=rows.index))
    assert ids == ["b"]
    assert measured["answer"].tolist() == ["0", "60", "180"]
    assert measured["distance"].tolist() == pytest.approx([0.0, 0.5, 2.0], abs=1e-6)


@pytest.mark.parametrize(("whole", "extra"), [(False, 4), (True, None)])
def test_whole_answers_have_no_limit_by_the_right_ones(whole: bool, extra: int | None) -> None:
    evaluator: Any = Parrot()
    nothing: Any = None
    answer_rows(evaluator, nothing, nothing, table(row("a", "90", "0")), Decoding(2, 3, 4), "x", whole=whole)
    assert evaluator.extra_tokens == extra


def test_nothing_is_generated_where_all_is_known() -> None:
    rows = table(row("a", "90", "0"))
    assert parrot(rows, pd.Series(["90"], index=rows.index))[1] == []


def test_no_rows() -> None:
    measured, ids = parrot(fact_rows()[:0])
    assert (len(measured), measured.columns.tolist(), ids) == (0, ["answer", "distance"], [])
    assert parrot(fact_rows()[:0], pd.Series([], dtype="str"))[1] == []


def test_an_empty_answer_is_unrelated() -> None:
    rows = table(row("a", "x", "0"))
    assert parrot(rows, pd.Series([""], index=rows.index))[0]["distance"].tolist() == [1.0]


@pytest.mark.parametrize("extra", [0, 5])
def test_what_judging_shows_is_what_the_model_writes(base: Base, tokenizer: Any, extra: int) -> None:
    model, names = base.model(), fact_rows().head(8)
    rows = table(*(row(f"{i}{c}", p, c) for i, p in enumerate(names["prompt"]) for c in COLOURS))
    of_base = InputEmbedding().open(model, tokenizer)
    shown = TASK.evaluator.judge(model, tokenizer, rows, 8, "x")["answer"]
    assert 0 < shown.notna().sum() < len(rows)
    decoding = Decoding(8, 8, extra)
    whole, part = (measure(TASK.evaluator, model, tokenizer, rows, of_base, decoding, known) for known in (None, shown))
    pd.testing.assert_frame_equal(whole, part)
    assert (part["distance"] == 0).tolist() == (part["answer"] == rows["target"]).tolist()
    assert {len(tokenizer(answer)["input_ids"]) for answer in part["answer"]} != {0}


def test_a_label_is_compared_by_its_words(encoder: Base, words: Any) -> None:
    rows = table(row("a", "the film was good", "good"), row("b", "the film was bad", "bad"))
    of_base = InputEmbedding().open(encoder.model(), words)
    answers = pd.Series(["good", "good"])
    distances = answer_distances(REVIEWS.evaluator, words, rows, answers, of_base, Decoding(2, 1, 0))
    assert distances.iloc[0] == 0
    assert 0 < distances.iloc[1] <= 2
