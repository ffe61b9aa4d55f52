"""What the picture says of a weight, against a whole decomposition."""

from __future__ import annotations

import pytest
import torch

from knowtune.methods.kasa.picture import draw_singular_values, singular_values
from knowtune.methods.kasa.tuner.variant import merged_weight
from tests.unit.methods.kasa.tuner.models import Layers, attach, gpt2, shake


def test_the_values_are_those_of_whole_decompositions() -> None:
    model = shake(attach(Layers()))
    table = singular_values(model)
    assert table["module"].unique().tolist() == ["tall", "square", "wide"]
    for name in ("tall", "square", "wide"):
        layer = getattr(model.base_model.model, name)
        weight = layer.base_layer.weight.detach()
        values = torch.linalg.svdvals(weight)
        found = {what: rows["value"].tolist() for what, rows in table[table["module"] == name].groupby("what")}
        assert sorted(found["dropped"]) == pytest.approx(sorted(values[-3:].tolist()), rel=1e-4)
        assert found["largest"][0] == pytest.approx(float(values[0]), rel=0.02)
        assert found["mean"][0] == pytest.approx(float(values.square().mean().sqrt()), rel=1e-5)
        change = merged_weight(layer, "default", weight) - weight + (layer.kasa_P["default"] @ layer.kasa_Q["default"])
        assert found["learned"] == pytest.approx(torch.linalg.svdvals(change)[:3].tolist(), rel=1e-3)


def test_a_fresh_adapter_has_learned_nothing_and_conv1d_is_drawn_too() -> None:
    table = singular_values(attach(gpt2()))
    assert (table[table["what"] == "learned"]["value"] == 0).all()
    picture = draw_singular_values(table)
    assert picture.startswith("<svg") and "root mean square" in picture and ">learned<" not in picture


def test_equal_values_give_equal_bytes() -> None:
    model = shake(attach(Layers()))
    one, other = (draw_singular_values(singular_values(model)) for _ in range(2))
    assert one == other and ">learned<" in one and "tall to wide" in one
