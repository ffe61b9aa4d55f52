from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.save import require_finite, write_checkpoint
from knowtune.checkpoints.tied_weights import untie, weights_of
from knowtune.common.errors import UserError
from tests.unit.helpers import equal_states, state


def test_what_is_written_is_read(base: Base, tmp_path: Path) -> None:
    model = base.model()
    read = write_checkpoint(model, base, tmp_path)
    assert equal_states(state(read), state(model))
    assert (tmp_path / "tokenizer.json").is_file()


def test_it_is_written_in_the_bases_dtype(base: Base, tmp_path: Path) -> None:
    coarse = replace(base, compute=replace(base.compute, dtype="bfloat16"))
    read = write_checkpoint(base.model(), coarse, tmp_path)
    assert {tensor.dtype for tensor in read.state_dict().values()} == {torch.bfloat16}


def test_a_checkpoint_that_is_not_saved_as_it_is_is_refused(base: Base, tmp_path: Path) -> None:
    model: Any = base.model()
    model.save_pretrained = base.model().save_pretrained  # as if saving had lost what was trained
    model.lm_head.weight.data += 1
    with pytest.raises(UserError, match=r"2 weights are not on disk what they are in memory, e\.g\. lm_head\.weight"):
        write_checkpoint(model, base, tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_written(value: float, base: Base, tmp_path: Path) -> None:
    model: Any = base.model()
    model.model.norm.weight.data[0] = value
    with pytest.raises(UserError) as caught:
        write_checkpoint(model, base, tmp_path / "out")
    told = "1 weights are not finite, e.g. model.norm.weight; lower the learning rate"
    assert str(caught.value).startswith(f"{tmp_path / 'out'}: {told}")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"^here: 1 weights"):
        require_finite(model, "here")


def test_a_weight_past_the_range_of_the_dtype_is_not_written(base: Base, tmp_path: Path) -> None:
    model: Any = base.model()
    model.model.norm.weight.data[0] = 1e6
    half = replace(base, compute=replace(base.compute, dtype="float16"))
    with pytest.raises(UserError, match="not finite"):
        write_checkpoint(model, half, tmp_path)


def test_untied_weights_have_a_life_of_their_own(base: Base, tmp_path: Path) -> None:
    model: Any = base.model()
    names = set(weights_of(model))
    assert "lm_head.weight" not in names
    assert untie(model)
    assert set(weights_of(model)) == names | {"lm_head.weight"}
    model.lm_head.weight.data += 1
    read = write_checkpoint(model, base, tmp_path)
    assert torch.equal(read.lm_head.weight, base.model().lm_head.weight + 1)  # type: ignore[union-attr,operator]
    assert not untie(read)
