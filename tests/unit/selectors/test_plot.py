from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from knowtune.selectors.base import Choice
from knowtune.selectors.everything import Everything
from knowtune.selectors.fish import Fish
from knowtune.selectors.ird import Ird
from knowtune.selectors.plot import draw_choice, kind_of, layer_of
from knowtune.selectors.random import Random
from knowtune.selectors.trace import Round, choice_of
from tests.unit.selectors.oracle import Table, logistic

SHAPES = {
    "model.embed_tokens.weight": (6, 4),
    **{f"model.layers.{i}.self_attn.q_proj.weight": (4, 4) for i in range(3)},
    **{f"model.layers.{i}.mlp.up_proj.weight": (8, 4) for i in range(3)},
    **{f"model.layers.{i}.input_layernorm.weight": (4,) for i in range(3)},
    "model.norm.weight": (4,),
}


def pool(**options: Any) -> Table:
    return logistic(shapes=SHAPES, **options)


def words(choice: Choice) -> list[str]:
    """Give the texts of a picture."""
    root = ElementTree.fromstring(draw_choice(choice))
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(
    ("name", "kind", "layer"),
    [
        ("model.layers.11.self_attn.q_proj.weight", "attention", 11),
        ("model.layers.0.mlp.down_proj.weight", "mlp", 0),
        ("model.layers.0.post_attention_layernorm.weight", "norm", 0),
        ("model.norm.weight", "norm", None),
        ("model.embed_tokens.weight", "embedding", None),
        ("lm_head.weight", "head", None),
        ("bert.encoder.layer.3.attention.output.LayerNorm.bias", "norm", 3),
        ("bert.encoder.layer.3.attention.output.dense.weight", "attention", 3),
        ("bert.encoder.layer.3.attention.self.query.bias", "attention", 3),
        ("bert.encoder.layer.3.intermediate.dense.weight", "mlp", 3),
        ("bert.encoder.layer.3.output.dense.weight", "mlp", 3),
        ("bert.embeddings.word_embeddings.weight", "embedding", None),
        ("bert.embeddings.LayerNorm.weight", "norm", None),
        ("bert.pooler.dense.weight", "head", None),
        ("classifier.weight", "head", None),
        ("pre_classifier.weight", "head", None),
        ("score.weight", "head", None),
        ("transformer.h.5.ln_1.weight", "norm", 5),
        ("transformer.h.5.attn.c_attn.weight", "attention", 5),
        ("transformer.h.5.mlp.c_fc.weight", "mlp", 5),
        ("transformer.ln_f.weight", "norm", None),
        ("transformer.wte.weight", "embedding", None),
        ("distilbert.transformer.layer.2.attention.q_lin.weight", "attention", 2),
        ("distilbert.transformer.layer.2.ffn.lin1.weight", "mlp", 2),
        ("encoder.block.4.layer.0.SelfAttention.q.weight", "attention", 4),
        ("encoder.block.4.layer.1.DenseReluDense.wo.weight", "mlp", 4),
        ("base_model.model.model.layers.7.self_attn.v_proj.lora_A.default.weight", "attention", 7),
        ("something.else", "other", None),
    ],
)
def test_kinds_and_layers_by_name(name: str, kind: str, layer: int | None) -> None:
    assert (kind_of(name), layer_of(name)) == (kind, layer)


def test_equal_choices_give_equal_bytes_without_a_clock() -> None:
    one, two = (draw_choice(Ird(num_parameters=9, samples=4).choose(pool(), seed=0)) for _ in range(2))
    assert one == two
    assert one.startswith("<svg")
    assert not re.search(r"<dc:date>|20\d\d-\d\d-\d\d|matplotlib v", one)


def test_panels_for_what_there_is() -> None:
    everything = words(Everything().choose(pool(), seed=0))
    assert "rows by score (24 of 24 chosen)" in everything
    assert not {"layer (–: outside of the stack)", "round", "share of the scores, %"} & set(everything)
    drawn = words(Random(budget=0.2, samples=3).choose(pool(), seed=0))
    assert {"rows by score (3 of 24 chosen)", "entries that the mask keeps", "left out", "embedding"} <= set(drawn)
    assert not {"round", "share of the scores, %"} & set(drawn)
    fish = words(Fish(budget=0.2).choose(pool(), seed=0))
    assert {"share of the scores, %", "attention", "mlp", "norm"} <= set(fish)
    assert "round" not in fish and "head" not in fish
    assert not [text for text in fish if text.startswith("protected")]
    protected = Random(budget=0.2, protect={"from": ["self"]}).choose(pool(kept={"self": pool().gradients}), seed=0)
    assert "protected, % of the entries (dotted: of all)" in words(protected)
    ird = words(Ird(budget=0.2, samples=3).choose(pool(), seed=0))
    assert {"share of the scores, %", "left after the round", "information kept", "round"} <= set(ird)
    assert "validation score of the pair" not in ird
    searched = words(Ird(budget=0.2, samples=3, search=True).choose(pool(), seed=0))
    assert "validation score of the pair" in searched


def test_a_hundred_layers_are_named_in_steps() -> None:
    shapes = {f"layers.{i}.mlp.weight": (2,) for i in range(100)}
    found = words(Fish(budget=0.5).choose(logistic(shapes=shapes), seed=0))
    assert {"0", "7", "98"} <= set(found)
    assert "1" not in found


def test_the_picture_of_many_rows_is_small() -> None:
    rows = pd.DataFrame({"id": [str(i) for i in range(200_000)]})
    many = Table(rows, np.zeros((0, 0)), {})
    scores = np.random.default_rng(0).random(len(rows))
    choice = choice_of(many, np.arange(1000), scores, None, [Round(1, 1000, None)])
    assert len(draw_choice(choice)) < 200_000


@pytest.mark.parametrize("num", [0, 1])
def test_hardly_any_rows(num: int) -> None:
    assert draw_choice(Everything().choose(pool(num=num), seed=0)).startswith("<svg")


def test_scores_of_any_sign_and_size() -> None:
    scores = np.array([-1e9, 0.0, 0.0, 1e-30, 1e30])
    table = Table(pd.DataFrame({"id": list("abcde")}), np.zeros((0, 0)), {})
    choice = choice_of(table, np.array([4]), scores, None, [Round(1, 1, None)])
    assert draw_choice(choice).startswith("<svg")
