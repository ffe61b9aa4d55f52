from __future__ import annotations

from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.lora import Lora
from knowtune.training.dry_run import dry_run
from tests.unit.helpers import encoded, equal_states, fact_rows, state


class Forgetful(Lora):
    def fold(self, model: torch.nn.Module) -> Any:
        return model.unload()  # type: ignore[operator]


class Broken(Lora):
    def attach(self, model: Any) -> torch.nn.Module:
        attached = super().attach(model)
        attached.register_forward_pre_hook(lambda *_: torch.zeros(2) + torch.zeros(3))
        return attached


def test_a_method_that_folds_to_what_it_computes_passes_and_leaves_the_base(base: Base) -> None:
    before = state(base.model())
    dry_run(Lora(rank=2, alpha=4.0), base, encoded(base, fact_rows()), "x")
    assert equal_states(before, state(base.model()))


def test_a_method_that_folds_to_another_model_is_refused(base: Base) -> None:
    with pytest.raises(UserError) as caught:
        dry_run(Forgetful(rank=2, alpha=4.0), base, encoded(base, fact_rows()), "train lora, seed 3")
    message = str(caught.value)
    assert message.startswith("train lora, seed 3: merged, this method would compute something else on this base than")
    assert message.endswith("in a logit, even before training; use other options or another method")


def test_a_method_that_cannot_be_computed_is_refused_with_the_reason(base: Base) -> None:
    with pytest.raises(UserError) as caught:
        dry_run(Broken(rank=2, alpha=4.0), base, encoded(base, fact_rows()), "x")
    assert str(caught.value).startswith("x: the base cannot be computed with this method: The size of tensor a (2)")
    assert str(caught.value).endswith("; change other layers of it (target_modules), or take another method")
