from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from knowtune.common.errors import UserError
from knowtune.evaluation.compute_metrics import compute_metrics
from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.results import Results, beside_base, noise_floors
from tests.unit.evaluation.metrics.tables import EXAMPLES, NUM_TOKENS, REVIEWS, TEXTS
from tests.unit.helpers import REVIEWS as TASK_OF_REVIEWS
from tests.unit.helpers import TASK

OWN = Results(EXAMPLES.drop(columns=["base_correct", "base_loss"]), TEXTS.drop(columns="base_loss"), None)


def test_the_base_stands_beside_each_example() -> None:
    base = Results(
        OWN.examples.assign(correct=[i % 2 == 0 for i in range(17)], loss=[i / 10 for i in range(17)]),
        OWN.texts.assign(loss=[3, 4]),
        None,
    )
    judged = beside_base(OWN, base, TASK)
    assert judged.examples["correct"].tolist() == OWN.examples["correct"].tolist()
    assert judged.examples["base_correct"].tolist() == [i % 2 == 0 for i in range(17)]
    assert judged.examples["base_loss"].tolist() == [i / 10 for i in range(17)]
    assert judged.texts["base_loss"].tolist() == [3.0, 4.0]
    assert judged.texts["loss"].tolist() == [2.0, 1.0]
    assert (judged.states, judged.base_states, judged.labels) == (None, None, ())


def test_noise_floors_count_what_turns_and_mean_what_moves() -> None:
    examples = pd.DataFrame({"kind": ["a", "a", "b"], "correct": [True, False, True], "loss": [1.0, 2.0, 3.0]})
    texts = pd.DataFrame({"num_tokens": [1, 3], "loss": [1.0, 2.0]})
    again = Results(
        examples.assign(correct=[False, True, True], loss=[1.5, 1.5, 3.0]), texts.assign(loss=[1.4, 1.6]), None
    )
    one = Results(examples, texts, None)
    assert noise_floors(one, again, numeric=False) == {"a": 1.0, "b": 0.0, "texts": pytest.approx(0.4)}
    assert noise_floors(one, again, numeric=True) == {"a": 0.5, "b": 0.0, "texts": pytest.approx(0.4)}
    silent = Results(examples, texts.drop(columns="loss"), None)  # a classifier has no loss on texts
    assert "texts" not in noise_floors(silent, silent, numeric=False)


def told(answer: str, distance: float | None) -> Results:
    return Results(OWN.examples.assign(answer=answer, distance=distance), OWN.texts, None)


def test_the_bases_answer_stands_beside_each_answer() -> None:
    examples = beside_base(told("Rome", 0.5), told("Oslo", 0.25), TASK).examples
    assert examples[["answer", "distance", "base_answer", "base_distance"]].drop_duplicates().to_numpy().tolist() == [
        ["Rome", 0.5, "Oslo", 0.25]
    ]


def test_answers_without_a_distance_come_back_from_a_file(tmp_path: Path) -> None:
    told("1984", None).write(tmp_path)
    found = Results.read(tmp_path)
    examples = beside_base(found, found, TASK).examples
    assert (examples["base_answer"].unique().tolist(), examples["base_distance"].dtype) == (["1984"], float)
    assert compute_metrics(["pushed_away", "pushed_by"], Judged(examples, TEXTS)) == {}


def test_without_answers_there_are_none_of_the_base() -> None:
    assert not {"base_answer", "base_distance"} & set(beside_base(OWN, told("Oslo", 0.25), TASK).examples)


def test_a_baseline_without_answers_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        beside_base(told("Rome", 0.5), OWN, TASK)
    assert str(caught.value) == (
        "evaluate: the baseline has no answers, which a metric reads; run the baseline stage again"
    )


def test_a_classifier_brings_states_and_labels_and_no_loss_of_texts() -> None:
    own, base = torch.tensor([[1.0, 0.0], [0.5, 2.0], [1.0, 1.0]]), torch.ones(3, 2)
    judged = beside_base(Results(REVIEWS, NUM_TOKENS, own), Results(REVIEWS, NUM_TOKENS, base), TASK_OF_REVIEWS)
    assert judged.states is not None and judged.base_states is not None
    assert (judged.states.tolist(), judged.base_states.tolist()) == (own.tolist(), base.tolist())
    assert judged.labels == ["bad", "good"]
    assert judged.texts.columns.tolist() == ["id", "num_tokens"]


@pytest.mark.parametrize("which", ["examples", "texts"])
def test_a_baseline_of_other_examples_is_refused(which: str) -> None:
    examples, texts = OWN.examples, OWN.texts
    if which == "examples":
        examples = examples[::-1].reset_index(drop=True)
    else:
        texts = texts[:1]
    with pytest.raises(UserError) as caught:
        beside_base(OWN, Results(examples, texts, None), TASK)
    assert str(caught.value) == (
        "evaluate: the baseline has other examples than this evaluation; run the baseline stage again"
    )


@pytest.mark.parametrize("states", [None, torch.tensor([[0.1, -2.5], [3.0, 1e-7]])])
def test_results_come_back_as_they_were(tmp_path: Path, states: torch.Tensor | None) -> None:
    Results(OWN.examples, OWN.texts, states).write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["examples.jsonl", "states.safetensors", "texts.jsonl"]
    found = Results.read(tmp_path)
    pd.testing.assert_frame_equal(found.examples, OWN.examples, check_dtype=False)
    pd.testing.assert_frame_equal(found.texts, OWN.texts, check_dtype=False)
    assert found.states is None if states is None else torch.equal(found.states, states)  # type: ignore[arg-type]


def test_results_without_texts_come_back(tmp_path: Path) -> None:
    Results(OWN.examples, OWN.texts[:0], torch.zeros(0, 1)).write(tmp_path)
    found = Results.read(tmp_path)
    assert (len(found.texts), "num_tokens" in found.texts) == (0, True)
    assert len(beside_base(found, found, TASK).texts) == 0
