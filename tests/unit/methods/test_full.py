from __future__ import annotations

from pathlib import Path

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.methods.full import Full
from knowtune.models.forward import forward
from tests.unit.helpers import equal_states, fact_rows, state, train


def test_every_parameter_moves(base: Base, work: Path) -> None:
    model = Full().attach(base.model().requires_grad_(False))
    assert all(p.requires_grad for p in model.parameters())
    trained = train(base, Full(), fact_rows().head(8), work).model
    before = dict(base.model().named_parameters())
    assert all(not torch.equal(p, before[name]) for name, p in trained.named_parameters())


def test_the_checkpoint_is_the_model_itself(base: Base, work: Path) -> None:
    from transformers import AutoModelForCausalLM

    trained = train(base, Full(), fact_rows().head(8), work).model
    Full().save(trained, work / "saved")
    assert not list((work / "saved").glob("*.bin"))
    assert str(base.folder) not in (work / "saved" / "config.json").read_text()
    loaded = Full().load(base.model(), work / "saved")
    plain = AutoModelForCausalLM.from_pretrained(work / "saved", local_files_only=True)
    for model in (loaded, plain, Full().fold(trained)):
        assert equal_states(state(model), state(trained))
    with torch.inference_mode():
        assert torch.equal(forward(loaded.eval(), [[1, 2, 3]]), forward(trained, [[1, 2, 3]]))
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight  # type: ignore[union-attr]


def test_saving_twice_gives_equal_bytes(base: Base, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Full().save(base.model(), tmp_path / name)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("a", "b"))
    assert one == two
    assert set(one) >= {"config.json", "model.safetensors"}


def test_only_a_plain_model_can_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a plain transformers model is needed, not Linear"):
        Full().save(torch.nn.Linear(1, 1), tmp_path)
