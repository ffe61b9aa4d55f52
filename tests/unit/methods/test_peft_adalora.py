"""AdaLoRA: its ranks are taken away while it trains, alone and woven."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.base import Method
from knowtune.methods.imsm.method import Imsm, Inner
from knowtune.methods.peft import Peft
from knowtune.models.forward import forward
from knowtune.training.fit import Fitted, fit, seed_everything
from tests.unit.helpers import encoded, fact_rows, recipe, train, training

IDS = [[1, 5, 9, 30, 200], [7, 8]]
OPTIONS: dict[str, Any] = {"init_r": 4, "target_r": 2, "target_modules": "all-linear"}


def woven(**options: Any) -> Imsm:
    return Imsm(inner=Inner(method="peft", type="adalora", options={**OPTIONS, **options}))


def alone(**options: Any) -> Peft:
    return Peft(type="adalora", **{**OPTIONS, **options})


def trained(method: Method, base: Base, work: Path) -> Fitted:
    return train(base, method, fact_rows(), work, batch_size=2, learning_rate=0.02)


def values(model: torch.nn.Module) -> list[torch.Tensor]:
    return [matrix for name, matrix in model.named_parameters() if ".lora_E." in name]


@pytest.mark.parametrize("make", [alone, woven])
def test_ranks_are_taken_away_until_the_budget_is_met(make: Any, base: Base, work: Path) -> None:
    method = make()
    fitted = trained(method, base, work)
    ranks = [int((matrix != 0).sum()) for matrix in values(fitted.model)]
    assert sum(ranks) == OPTIONS["target_r"] * len(ranks)
    assert max(ranks) > min(ranks) == 0  # a module may lose all of its own
    method.save(fitted.model, work / "saved")
    saved = json.loads((work / "saved/adapter_config.json").read_text())
    saved = saved.get("inner", saved)
    assert (saved["total_step"], saved["tinit"], saved["tfinal"]) == (12, 1, 4)
    with torch.inference_mode():
        loaded = method.load(base.model(), work / "saved")
        assert torch.equal(forward(loaded, IDS), forward(fitted.model, IDS))


@pytest.mark.parametrize("make", [alone, woven])
def test_the_best_epoch_is_kept_with_the_ranks_that_it_had(make: Any, base: Base, work: Path) -> None:
    method = make()
    seed_everything(0)
    model = method.attach(base.model())
    validation = encoded(base, fact_rows().tail(6).reset_index(drop=True))
    made = recipe(epochs=4, batch_size=4, learning_rate=0.02, load_best_model_at_end=True)
    fitted = fit(model, training(encoded(base, fact_rows()), work, made, validation=validation, method=method))
    method.save(fitted.model, work / "saved")
    with torch.inference_mode():
        loaded = method.load(base.model(), work / "saved")
        assert torch.equal(forward(loaded, IDS), forward(fitted.model, IDS))


def test_a_schedule_that_is_longer_than_the_training_stops_before_the_first_step(base: Base, work: Path) -> None:
    with pytest.raises(UserError) as caught:
        trained(woven(tinit=8, tfinal=4), base, work)
    assert str(caught.value) == (
        "adalora: tinit 8 and tfinal 4 leave none of 12 steps in which ranks are taken away; "
        "lower them, or train longer"
    )


def test_the_penalty_is_pefts(base: Base) -> None:
    method = alone(orth_reg_weight=0.7)
    model: Any = method.attach(base.model()).eval()
    with torch.no_grad():
        for matrix in model.parameters():
            if matrix.requires_grad:
                matrix += 0.1
        ids = torch.tensor([[1, 5, 9, 30]])
        plain = model.base_model.model(input_ids=ids, labels=ids).loss
        whole = model(input_ids=ids, labels=ids).loss
        own = method.penalty(model)
    assert own is not None
    assert float(own) == pytest.approx(float(whole - plain), rel=1e-5)
    assert torch.equal(own, woven(orth_reg_weight=0.7).penalty(model))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"total_step": 9}, "run.options.total_step: got 9: the training counts its own steps"),
        ({"r": 9}, "run.options.r: got 9: ranks begin at init_r"),
        ({"target_r": 5}, "run.options.target_r: got 5, with init_r 4; allowed: 1 to init_r"),
        ({"init_r": 3, "target_r": 0}, "run.options.target_r: got 0, with init_r 3"),
        ({"tinit": "x"}, "run.options.tinit: got 'x'"),
        ({"use_dora": True}, "does not support DoRA"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], fault: str) -> None:
    problems = [str(problem) for problem in alone(**options).problems("run")]
    assert len(problems) == 1
    assert fault in problems[0]
