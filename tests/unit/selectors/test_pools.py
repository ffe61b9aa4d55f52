from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.gradients.fisher import fisher_diagonal, parameters_in, row_traces
from knowtune.gradients.options import Scoring
from knowtune.models.heads import head_parameters
from knowtune.preserve.sources import Material, encode_sequences
from knowtune.selectors.base import Pool
from knowtune.selectors.pools import ModelPool
from tests.unit.helpers import encoded, equal_states, fact_rows, review_rows


def pool(base: Base, model: Any = None, **options: Any) -> ModelPool:
    rows = fact_rows() if type(base.task).__name__ == "Knowledge" else review_rows()
    torch.manual_seed(0)
    model = base.model() if model is None else model
    return ModelPool(rows, encoded(base, rows).rows, model, base.task, **options)


def test_it_scores_the_rows_that_are_asked_for(base: Base) -> None:
    made = pool(base)
    some = [3, 0, 7]
    rows = [made.encoded[i] for i in some]
    expected = fisher_diagonal(made.model, rows, base.task, parameters_in(made.model), Scoring())
    found = made.fisher(some, Scoring())
    assert list(found) == list(made.shapes) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    mask = {"model.norm.weight": torch.tensor([1, 5])}
    traces = row_traces(made.model, rows, base.task, parameters_in(made.model), Scoring(), mask)
    assert torch.equal(made.row_scores(some, mask, Scoring()), traces)


def test_weights_are_the_models_own(base: Base) -> None:
    made = pool(base, pattern="*.mlp.*")
    assert {name: tuple(w.shape) for name, w in made.weights().items()} == made.shapes
    name = "model.layers.0.mlp.up_proj.weight"
    assert made.weights()[name].data_ptr() == made.model.get_parameter(name).data_ptr()


@pytest.mark.parametrize("backbone", ["encoder", "decoder"])
def test_a_classifiers_head_is_reserved(backbone: str, request: pytest.FixtureRequest) -> None:
    made = pool(request.getfixturevalue(backbone))
    head = head_parameters(made.model)
    assert head and not set(head) & set(made.shapes)
    assert made.num_reserved == sum(p.numel() for p in head.values())
    assert len(made.shapes) + len(head) == len(list(made.model.parameters()))


def test_a_language_model_has_no_head_of_that_kind(base: Base) -> None:
    assert head_parameters(base.model()) == {}
    assert pool(base).num_reserved == 0


def test_the_head_of_an_adapters_model_is_its_trained_copy(encoder: Base) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(encoder.model(), LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    head = head_parameters(model)
    assert head and all(".modules_to_save.default." in name for name in head)
    made = pool(encoder, model, adapter="default")
    assert all("lora_" in name for name in made.shapes)


def test_a_pattern_that_names_the_head_alone(encoder: Base) -> None:
    with pytest.raises(UserError, match=r"pattern 'classifier\.\*' names the classifier's head alone, which is always"):
        pool(encoder, pattern="classifier.*")


def test_a_search_without_a_trial(base: Base) -> None:
    with pytest.raises(UserError, match="a search needs `trial`"):
        pool(base).dev_score([0], {}, 0)


def test_every_question_has_a_work_folder_of_its_own(base: Base, tmp_path: Path) -> None:
    made = pool(base, work=tmp_path)
    made.fisher([0, 1], Scoring())
    made.fisher([0, 1], Scoring())
    assert len(list(tmp_path.iterdir())) == 1
    made.fisher([0, 2], Scoring())
    made.fisher([0, 1], Scoring(max_loss=1.0))
    made.row_scores([0, 1], None, Scoring())
    made.row_scores([0, 1], {"model.norm.weight": torch.tensor([1])}, Scoring())
    made.row_scores([0, 1], {"model.norm.weight": torch.tensor([2])}, Scoring())
    assert len(list(tmp_path.iterdir())) == 6


def written(num: int = 8) -> Material:
    """Give sequences of different lengths that a base of few tokens could have written."""
    tokens = [[1, *range(7, 9 + i)] for i in range(num)]
    table = pd.DataFrame({"id": [f"self:{i}" for i in range(num)], "input_ids": tokens})
    return Material({"self": encode_sequences(table)}, {"self": table["id"].tolist()})


def test_what_the_base_knew_is_scored_as_rows_are(base: Base) -> None:
    material = written()
    made = pool(base, material=material)
    expected = fisher_diagonal(made.model, material.sequences["self"], base.task, parameters_in(made.model), Scoring())
    assert equal_states(dict(made.kept_fisher("self", None)), expected)


def test_samples_of_what_the_base_knew_follow_the_seed(base: Base) -> None:
    pools = [pool(base, material=written(), seed=seed) for seed in (0, 0, 1)]
    found = [made.kept_fisher("self", 3)["model.norm.weight"] for made in pools]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    with pytest.raises(UserError) as caught:
        pool(base, material=written()).kept_fisher("self", 9)
    assert str(caught.value) == "protect.samples: got 9, but 'self' has only 8 sequences; allowed: up to that"


def test_the_seed_is_that_of_drawn_labels(base: Base) -> None:
    one, other = (pool(base, seed=seed).fisher([0, 1], Scoring(labels="expected")) for seed in (0, 1))
    assert not torch.equal(one["model.norm.weight"], other["model.norm.weight"])


def test_rows_alone_load_no_model() -> None:
    made = Pool(fact_rows())
    assert (made.shapes, made.num_reserved, made.weights()) == ({}, 0, {})
    with pytest.raises(NotImplementedError):
        made.fisher([0], Scoring())


def test_of_no_rows(base: Base) -> None:
    with pytest.raises(UserError, match="no row is left to score"):
        pool(replace(base)).fisher([], Scoring())
