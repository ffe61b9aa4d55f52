from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

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


def test_what_reads_the_base_stands_beside_it(base: Base) -> None:
    on = evaluation_set(["kl_to_base", "kl_to_base_prompts"])
    on = replace(on, examples=on.examples.assign(kind=["reliability", "generalisation"] * 3))
    pristine = base.model()
    baseline = judge_model(on, pristine, base, None, "baseline", pristine)
    tuned = base.model()
    with torch.no_grad():
        tuned.get_input_embeddings().weight.mul_(1.5)
    found = evaluate_seeds(on, [(0, base.model()), (1, tuned)], base, baseline, None, "evaluate x", pristine)
    assert found.metrics["0"] == {"kl_to_base": 0.0, "kl_to_base_prompts": 0.0}
    assert min(found.metrics["1"].values()) > 0.01
    assert found.texts["kl"].tolist()[:2] == baseline.texts["kl"].tolist() == [0.0, 0.0]
    assert found.examples["prompt_kl"].isna().tolist() == [True, False] * 6


def test_the_base_reads_only_what_a_metric_asks_for(base: Base) -> None:
    model = base.model()
    of_texts = judge_model(evaluation_set(["kl_to_base"]), model, base, None, "x", model)
    assert "kl" in of_texts.texts and "prompt_kl" not in of_texts.examples
    of_prompts = judge_model(evaluation_set(["kl_to_base_prompts"]), model, base, None, "x", model)
    assert "kl" not in of_prompts.texts and "prompt_kl" in of_prompts.examples


def test_no_answers_where_no_metric_reads_them(base: Base) -> None:
    results = judge_model(evaluation_set(["reliability"]), base.model(), base, None, "x")
    assert not {"answer", "distance"} & set(results.examples)
    assert results.texts.columns.tolist() == ["id", "loss", "num_tokens"]
    assert results.states is None
