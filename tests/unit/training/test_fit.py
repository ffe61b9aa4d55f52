from __future__ import annotations

from pathlib import Path

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.text.encoded import Encoded
from knowtune.training.dataset import Rows
from knowtune.training.fit import fit, seed_everything
from tests.unit.helpers import (
    encoded,
    equal_states,
    fact_rows,
    state,
    train,
    training,
)


def test_same_seed_same_bits(base: Base, work: Path) -> None:
    method = Lora(rank=2, alpha=4.0, dropout=0.2)
    found = [
        state(train(base, method, fact_rows().head(8), work / str(i), seed=s).model) for i, s in enumerate((3, 3, 4))
    ]
    assert equal_states(found[0], found[1])
    assert not equal_states(found[0], found[2])


def test_what_it_leaves(base: Base, work: Path) -> None:
    fitted = train(base, Lora(rank=2, alpha=4.0, target_modules=["q_proj"]), fact_rows(), work, epochs=4)
    assert fitted.num_trainable == 2 * 2 * (64 + 64)
    assert fitted.num_parameters == sum(p.numel() for p in fitted.model.parameters())
    assert fitted.num_steps == 24
    assert not fitted.model.training
    assert [entry["step"] for entry in fitted.curve] == list(range(1, 25))
    losses = [float(entry["loss"]) for entry in fitted.curve]
    assert sum(losses[-6:]) < sum(losses[:6])  # the last epoch against the first


def test_a_learning_rate_warms_up(base: Base, work: Path) -> None:
    options = {"batch_size": 24, "lr_scheduler_type": "constant_with_warmup"}
    still = train(base, Full(), fact_rows(), work / "a", warmup_steps=1, **options)
    assert equal_states(state(still.model), state(base.model()))


def test_the_progress_line(base: Base, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(base, Full(), fact_rows().head(6), work, batch_size=4)
    num = sum(p.numel() for p in base.model().parameters())
    assert f"training: 6 rows, 2 steps an epoch, {num:,} trainable" in capsys.readouterr().err


def test_no_trainable_parameter(base: Base, work: Path) -> None:
    model = base.model().requires_grad_(False)
    with pytest.raises(UserError) as caught:
        fit(model, training(encoded(base, fact_rows()), work, label="train x, seed 0"))
    assert str(caught.value) == "train x, seed 0: no parameter is trainable; check target_modules and the mask"


def test_no_row(base: Base, work: Path) -> None:
    with pytest.raises(UserError) as caught:
        fit(base.model(), training(encoded(base, fact_rows()[:0]), work))
    assert str(caught.value) == "training: no training row is left; look at the filter's dropped rows"


def test_no_learned_token(base: Base, work: Path) -> None:
    rows = Rows([Encoded([1, 2, 3], 3, 3)] * 2, ["a", "b"])
    with pytest.raises(UserError) as caught:
        fit(base.model(), training(rows, work))
    assert str(caught.value) == "training: no row has a token to learn; look at the targets"


def test_seed_everything_seeds_torch() -> None:
    seed_everything(5)
    one = torch.rand(3)
    seed_everything(5)
    assert torch.equal(torch.rand(3), one)
