from __future__ import annotations

import pandas as pd
import pytest

from knowtune.checkpoints.base import Base
from knowtune.evaluation.evaluate import EvaluationSet, evaluate_seeds, judge_model
from knowtune.semantics.representations.input_embedding import InputEmbedding
from knowtune.tasks.answers import Decoding
from tests.unit.helpers import fact_rows

TEXTS = pd.DataFrame({"id": ["t1", "t2"], "text": ["Ada lives in Rome.", "The film was good."]})


def evaluation_set(metrics: list[str]) -> EvaluationSet:
    return EvaluationSet(fact_rows().head(6).assign(kind="reliability"), TEXTS, metrics, Decoding(4, 6, 2), 32)


def test_a_model_that_is_the_base_equals_it(base: Base, capsys: pytest.CaptureFixture[str]) -> None:
    on, vectors = evaluation_set(["reliability", "pushed_away"]), InputEmbedding().open(base.model(), base.tokenizer())
    baseline = judge_model(on, base.model(), base, vectors, "baseline")
    models = ((seed, base.model()) for seed in (3, 12))
    found = evaluate_seeds(on, models, base, baseline, vectors, "evaluate x")
    assert list(found.metrics) == ["3", "12"]
    assert found.metrics["3"] == {"reliability": baseline.examples["correct"].mean(), "pushed_away": 0.0}
    assert found.examples["seed"].tolist() == [3] * 6 + [12] * 6
    for name in ("correct", "loss", "answer", "distance"):
        assert found.examples[name].equals(found.examples[f"base_{name}"])
    assert found.texts["id"].tolist() == ["t1", "t2"] * 2
    assert "evaluate x, seed 12: {" in capsys.readouterr().out


def test_no_answers_where_no_metric_reads_them(base: Base) -> None:
    results = judge_model(evaluation_set(["reliability"]), base.model(), base, None, "x")
    assert not {"answer", "distance"} & set(results.examples)
    assert results.texts.columns.tolist() == ["id", "loss", "num_tokens"]
    assert results.states is None
