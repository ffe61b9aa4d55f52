from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from knowtune.evaluation.compute_metrics import compute_metrics
from knowtune.evaluation.constant_baseline import constant_answer
from knowtune.evaluation.metrics.base import Judged
from tests.unit.helpers import REVIEWS as TASK_OF_REVIEWS
from tests.unit.helpers import TASK


class TestConstantAnswer:
    def judged(self, kind: str, train: list[str], test: list[str], task: Any) -> tuple[str, Judged] | None:
        examples = pd.DataFrame({"id": [str(i) for i in range(len(test))], "kind": "generalisation", "target": test})
        return constant_answer(kind, pd.DataFrame({"target": train}, dtype="str"), examples, task)

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
