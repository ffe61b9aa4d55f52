"""What the picture says of a weight, against a whole decomposition."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from knowtune.methods.kasa import picture
from knowtune.methods.kasa.picture import SHOWN, draw_singular_values, singular_values, spectrum
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
        assert found["base"] == pytest.approx(values.flip(0).tolist(), rel=1e-4)
        change = merged_weight(layer, "default", weight) - weight + (layer.kasa_P["default"] @ layer.kasa_Q["default"])
        assert found["learned"] == pytest.approx(torch.linalg.svdvals(change)[:3].tolist(), rel=1e-3)


def test_a_fresh_adapter_has_learned_nothing_and_conv1d_is_drawn_too() -> None:
    table = singular_values(attach(gpt2()))
    assert (table[table["what"] == "learned"]["value"] == 0).all()
    drawn = draw_singular_values(table)
    assert drawn.startswith("<svg") and ">the base's<" in drawn and ">learned<" not in drawn


@pytest.mark.parametrize("shape", [(500, 300), (300, 500)])
def test_of_many_values_those_at_even_ranks_are_shown(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    values = torch.linalg.svdvals(weight.double()).flip(0)
    shown = spectrum(weight)
    assert len(shown) == SHOWN
    at = torch.linspace(0, 299, SHOWN).double()
    assert (shown - values[at.round().long()]).abs().max() <= (values[1:] - values[:-1]).max() + 1e-5
    assert shown[[0, -1]].tolist() == pytest.approx(values[[0, -1]].tolist(), rel=1e-5)


@pytest.mark.parametrize("shape", [(600, 600), (900, 400), (400, 900)])
def test_of_a_large_weight_the_values_are_estimated(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(4)) * torch.linspace(0.2, 2, shape[1])
    exact = spectrum(weight)
    monkeypatch.setattr(picture, "WHOLE", 0)
    estimated = spectrum(weight)
    assert not torch.equal(estimated, exact)
    assert float((estimated - exact).abs().max()) < 0.05 * float(exact[-1])
    assert torch.equal(estimated, spectrum(weight))


@pytest.mark.parametrize(("rank", "smallest"), [(0, 0.0), (5, 0.0), (400, 1.0)])
def test_a_weight_without_full_rank_is_estimated_too(
    rank: int, smallest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "WHOLE", 0)
    generator = torch.Generator().manual_seed(5)
    left = torch.linalg.qr(torch.randn(500, 400, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(400, 400, generator=generator)).Q
    shown = spectrum(left[:, :rank] @ right[:rank])  # singular values 1, as many as the rank
    assert float(shown[0]) == pytest.approx(smallest, abs=1e-3)
    assert float(shown[-1]) == pytest.approx(1.0 if rank else 0.0, abs=1e-3)
    assert "svg" in draw_singular_values(pd.DataFrame({"module": "w", "what": "base", "value": shown.tolist()}))


def test_equal_values_give_equal_bytes() -> None:
    model = shake(attach(Layers()))
    one, other = (draw_singular_values(singular_values(model)) for _ in range(2))
    assert one == other and ">learned<" in one and "tall to wide" in one
