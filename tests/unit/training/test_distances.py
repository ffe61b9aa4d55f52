from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.methods.lora import Lora
from knowtune.models.generate import greedy_answers
from knowtune.semantics.distance import text_distances
from knowtune.training.reweighting import Reweighting, open_reweighting
from tests.unit.helpers import (
    encoded,
    equal_states,
    fact_rows,
    plan,
    review_rows,
    row,
    state,
    table,
    train,
    with_distances,
)

BOTH = pytest.mark.parametrize("granularity", ["example", "token"])
ROWS = with_distances(fact_rows())


def opened(base: Base, rows: pd.DataFrame = ROWS, **options: Any) -> Reweighting:
    return open_reweighting(plan(**options), rows, encoded(base, rows), base, base.tokenizer(), "training")


def test_rows_by_greedy_answers_and_the_pristine_bases_vectors(base: Base) -> None:
    found = opened(base, refresh_steps=1, batch_size=5)
    assert found.measure is not None
    other = base.model()
    torch.manual_seed(1)
    with torch.no_grad():  # another model answers, whose own embeddings must not count
        other.get_input_embeddings().weight.mul_(torch.rand(1, 64) + 0.5)
    answers = greedy_answers(other, base.tokenizer(), ROWS["prompt"].tolist(), 24, 4)
    vectors = plan().representation.open(base.model(), base.tokenizer())
    expected = text_distances(vectors, answers, [[target] for target in ROWS["target"]])
    assert found.measure(other, 0, 1).tolist() == pytest.approx(expected, abs=1e-12)
    assert max(expected) > 0.1


def test_of_several_right_answers_the_nearest_counts(base: Base) -> None:
    answer = greedy_answers(base.model(), base.tokenizer(), ["Ada lives in "], 1, 4)[0]
    rows = table(row("a", "Ada lives in ", "zq", aliases=answer), row("b", "Ada lives in ", "zq"))
    found = opened(base, rows.assign(distance=[0.0, 1.0]), refresh_steps=1)
    assert found.measure is not None
    near, far = found.measure(base.model(), 0, 1).tolist()
    assert near == 0 < far


def test_a_classifiers_by_the_word_of_its_label(encoder: Base) -> None:
    rows = review_rows()
    torch.manual_seed(0)
    model = encoder.model()
    answers = encoder.task.evaluator.answer(model, encoder.tokenizer(), rows, 24, 4, "x")
    found = opened(encoder, rows.assign(distance=np.linspace(0, 1, 24)), refresh_steps=1)
    assert found.measure is not None
    distances = found.measure(model, 0, 1).tolist()
    assert [d == 0 for d in distances] == [s == t for s, t in zip(answers, rows["target"], strict=True)]
    assert len(set(distances)) == 2


@BOTH
def test_the_shares_of_processes_are_the_whole(base: Base, granularity: str) -> None:
    found = opened(base, granularity=granularity, refresh_steps=1, batch_size=5)
    assert found.measure is not None
    model = base.model()
    shares = [found.measure(model, number, 3) for number in range(3)]
    assert torch.equal(sum(shares, torch.zeros(())), found.measure(model, 0, 1))
    assert all((share != 0).any() for share in shares)


@BOTH
def test_the_model_and_the_generators_are_left_alone(base: Base, work: Path, granularity: str) -> None:
    """What a training with alpha 0 draws and moves is what a plain one does; see test_laws for every method."""
    found: list[Any] = []
    for weighed in (plan(alpha=0.0, granularity=granularity, refresh_steps=1), None):
        method = Lora(rank=2, alpha=4.0, dropout=0.3)
        fitted = train(base, method, ROWS, work / str(weighed is None), batch_size=8, epochs=2, weighed=weighed)
        generators = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
        found.append((state(fitted.model), fitted.curve, generators))
    assert equal_states(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]
