from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.common.errors import UserError
from knowtune.evaluation.leaderboard import (
    Results,
    beside_base,
    compute_metrics,
    constant_answer,
    over_seeds,
    reads_answers,
    reads_whole_answers,
)
from knowtune.evaluation.metrics import METRICS
from knowtune.evaluation.metrics.base import Judged
from tests.unit.evaluation.metrics.tables import ITEMS, KNOWLEDGE, NUM_TOKENS, REVIEWS, TEXTS, emptied
from tests.unit.helpers import REVIEWS as TASK_OF_REVIEWS
from tests.unit.helpers import TASK

OWN = Results(ITEMS.drop(columns=["base_correct", "base_loss"]), TEXTS.drop(columns="base_loss"), None)


def test_the_base_stands_beside_each_item() -> None:
    base = Results(
        OWN.items.assign(correct=[i % 2 == 0 for i in range(17)], loss=[i / 10 for i in range(17)]),
        OWN.texts.assign(loss=[3, 4]),
        None,
    )
    judged = beside_base(OWN, base, TASK)
    assert judged.items["correct"].tolist() == OWN.items["correct"].tolist()
    assert judged.items["base_correct"].tolist() == [i % 2 == 0 for i in range(17)]
    assert judged.items["base_loss"].tolist() == [i / 10 for i in range(17)]
    assert judged.texts["base_loss"].tolist() == [3.0, 4.0]
    assert judged.texts["loss"].tolist() == [2.0, 1.0]
    assert (judged.states, judged.base_states, judged.labels) == (None, None, ())


def told(answer: str, distance: float | None) -> Results:
    return Results(OWN.items.assign(answer=answer, distance=distance), OWN.texts, None)


def test_the_bases_answer_stands_beside_each_answer() -> None:
    items = beside_base(told("Rome", 0.5), told("Oslo", 0.25), TASK).items
    assert items[["answer", "distance", "base_answer", "base_distance"]].drop_duplicates().to_numpy().tolist() == [
        ["Rome", 0.5, "Oslo", 0.25]
    ]


def test_answers_without_a_distance_come_back_from_a_file(tmp_path: Path) -> None:
    told("1984", None).write(tmp_path)
    found = Results.read(tmp_path)
    items = beside_base(found, found, TASK).items
    assert (items["base_answer"].unique().tolist(), items["base_distance"].dtype) == (["1984"], float)
    assert compute_metrics(["pushed_away", "pushed_by"], Judged(items, TEXTS)) == {}


def test_without_answers_there_are_none_of_the_base() -> None:
    assert not {"base_answer", "base_distance"} & set(beside_base(OWN, told("Oslo", 0.25), TASK).items)


def test_a_baseline_without_answers_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        beside_base(told("Rome", 0.5), OWN, TASK)
    assert str(caught.value) == (
        "evaluate: the baseline has no answers, which a metric reads; run the baseline stage again"
    )


def test_which_metrics_read_answers() -> None:
    long = ["token_f1", "contains", "final_number"]
    assert [name for name in METRICS if reads_answers([name])] == [*long, "pushed_away", "pushed_by"]
    assert [name for name in METRICS if reads_whole_answers([name])] == long
    assert not reads_whole_answers(["pushed_by", "known"])
    assert reads_answers(["known", "pushed_by"])
    assert not reads_answers([])


def test_a_classifier_brings_states_and_labels_and_no_loss_of_texts() -> None:
    own, base = torch.tensor([[1.0, 0.0], [0.5, 2.0], [1.0, 1.0]]), torch.ones(3, 2)
    judged = beside_base(Results(REVIEWS, NUM_TOKENS, own), Results(REVIEWS, NUM_TOKENS, base), TASK_OF_REVIEWS)
    assert judged.states is not None and judged.base_states is not None
    assert (judged.states.tolist(), judged.base_states.tolist()) == (own.tolist(), base.tolist())
    assert judged.labels == ["bad", "good"]
    assert judged.texts.columns.tolist() == ["id", "num_tokens"]


@pytest.mark.parametrize("which", ["items", "texts"])
def test_a_baseline_of_other_items_is_refused(which: str) -> None:
    items, texts = OWN.items, OWN.texts
    if which == "items":
        items = items[::-1].reset_index(drop=True)
    else:
        texts = texts[:1]
    with pytest.raises(UserError) as caught:
        beside_base(OWN, Results(items, texts, None), TASK)
    assert str(caught.value) == (
        "evaluate: the baseline has other items than this evaluation; run the baseline stage again"
    )


@pytest.mark.parametrize("states", [None, torch.tensor([[0.1, -2.5], [3.0, 1e-7]])])
def test_results_come_back_as_they_were(tmp_path: Path, states: torch.Tensor | None) -> None:
    Results(OWN.items, OWN.texts, states).write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["items.jsonl", "states.safetensors", "texts.jsonl"]
    found = Results.read(tmp_path)
    pd.testing.assert_frame_equal(found.items, OWN.items, check_dtype=False)
    pd.testing.assert_frame_equal(found.texts, OWN.texts, check_dtype=False)
    assert found.states is None if states is None else torch.equal(found.states, states)  # type: ignore[arg-type]


def test_results_without_texts_come_back(tmp_path: Path) -> None:
    Results(OWN.items, OWN.texts[:0], torch.zeros(0, 1)).write(tmp_path)
    found = Results.read(tmp_path)
    assert (len(found.texts), "num_tokens" in found.texts) == (0, True)
    assert len(beside_base(found, found, TASK).texts) == 0


def test_metrics_by_name() -> None:
    assert compute_metrics(["forgotten", "reliability"], KNOWLEDGE) == {"forgotten": 0.4, "reliability": 3 / 4}


def test_a_metric_with_nothing_to_measure_is_left_out() -> None:
    judged = Judged(ITEMS[ITEMS["kind"] == "reliability"], TEXTS[:0])
    assert compute_metrics(list(METRICS), judged) == {"reliability": 0.75}


def test_an_unknown_metric() -> None:
    with pytest.raises(UserError, match=r"^no metric is called 'forgoten'; known: .*; did you mean 'forgotten'\?$"):
        compute_metrics(["forgoten"], KNOWLEDGE)


def test_over_seeds() -> None:
    found = over_seeds({"seed-0": {"known": 0.0, "locality": 1.0}, "seed-1": {"known": 1.0, "locality": 1.0}})
    assert found["known"] == {"mean": 0.5, "half_width": pytest.approx(12.7062047 / 2), "n": 2}
    assert found["locality"] == {"mean": 1.0, "half_width": 0.0, "n": 2}
    assert over_seeds({"seed-0": {"known": 0.25}}) == {"known": {"mean": 0.25, "half_width": None, "n": 1}}


def test_seeds_without_a_value_are_left_out_and_counted() -> None:
    found = over_seeds({"0": {}, "1": {"pearson": 0.5}, "2": {"pearson": 0.7, "spearman": 1.0}})
    assert found["pearson"]["mean"] == pytest.approx(0.6)
    assert (found["pearson"]["n"], found["pearson"]["without"]) == (2, 1)
    assert found["spearman"] == {"mean": 1.0, "half_width": None, "n": 1, "without": 2}
    assert over_seeds({"0": {}, "1": {}}) == {}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_what_is_not_finite_is_left_out_and_said(loss: float, capsys: pytest.CaptureFixture[str]) -> None:
    judged = Judged(ITEMS, TEXTS.assign(loss=loss))
    assert compute_metrics(["text_loss", "known"], judged) == {"known": 0.5}
    assert capsys.readouterr().err == f"text_loss: got {loss}, which no table can hold; a dash stands for it\n"


def test_no_item_at_all() -> None:
    assert compute_metrics(list(METRICS), emptied(KNOWLEDGE)) == {}


class TestConstantAnswer:
    def judged(self, kind: str, train: list[str], test: list[str], task: Any) -> tuple[str, Judged] | None:
        items = pd.DataFrame({"id": [str(i) for i in range(len(test))], "kind": "generalisation", "target": test})
        return constant_answer(kind, pd.DataFrame({"target": train}, dtype="str"), items, task)

    def test_the_most_frequent_training_label_is_judged_as_a_model_would_be(self) -> None:
        found = self.judged(
            "classification", ["good", "good", "bad", ""], ["good", "bad", "good", "good"], TASK_OF_REVIEWS
        )
        assert found is not None
        answer, judged = found
        assert answer == "good"
        measured = compute_metrics(["accuracy", "f1", "matthews", "drift", "similarity_order", "pushed_away"], judged)
        assert measured == {"accuracy": 0.75, "f1": pytest.approx(2 * 0.75 / 1.75), "matthews": 0.0}

    def test_of_equally_frequent_labels_the_first(self) -> None:
        found = self.judged("classification", ["good", "bad"], ["good"], TASK_OF_REVIEWS)
        assert found is not None and found[0] == "bad"

    def test_damaged_rows_without_a_target_do_not_count(self) -> None:
        found = self.judged("classification", ["", "", "good"], ["good"], TASK_OF_REVIEWS)
        assert found is not None and found[0] == "good"

    def test_the_mean_of_the_scores_has_no_correlation(self) -> None:
        found = self.judged("regression", ["1", "2", "4.5"], ["1", "2", "3"], TASK)
        assert found is not None
        assert found[0] == "2.5"
        assert compute_metrics(["pearson", "spearman"], found[1]) == {}

    def test_knowledge_has_none(self) -> None:
        assert self.judged("knowledge", ["Rome"], ["Rome"], TASK) is None
