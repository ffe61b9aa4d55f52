from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.preserve.options import Preserve
from knowtune.preserve.preservation import Preservation, open_preservation
from knowtune.preserve.sources import Material
from knowtune.preserve.streams import Part
from knowtune.text.encoded import Encoded
from knowtune.training.fit import Fitted, fit, seed_everything
from knowtune.training.trainer import KnowledgeTrainer
from tests.unit.helpers import counted_calls, encoded, equal_states, fact_rows, recipe, state, training

LORA = Lora(rank=2, alpha=4.0, dropout=0.1)
REPLAY = {"replay": {"from": "known", "share": 0.5}}
DISTILL = {"distill": {"on": "self", "share": 0.5}}


def material(base: Base) -> Material:
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(3, 300, (10, 12), generator=generator)
    written = [Encoded.running(row.tolist()[: 6 + i % 5]) for i, row in enumerate(tokens)]
    known = base.task.encode(base.tokenizer(), fact_rows().head(8))
    sequences = {"self": written, "known": known}
    return Material(sequences, {name: [f"{name}-{i}" for i in range(len(rows))] for name, rows in sequences.items()})


def preserved(
    base: Base, method: Any, work: Path, options: dict[str, Any] | None, seed: int = 0, **changes: Any
) -> tuple[Fitted, Preservation | None]:
    """Train the later facts as `knowtune.training.run.train_seed` does."""
    opened = None
    if options is not None:
        opened = open_preservation(Preserve.model_validate(options), material(base), base, seed, "train x")
    seed_everything(seed)
    model: Any = base.model()
    if opened is not None:
        opened.see_base(model)
    attached = method.attach(model)
    if opened is not None:
        opened.see_attached(attached)
    rows = encoded(base, fact_rows()[8:])
    given = training(rows, work, recipe(**changes), seed=seed, task=base.task, method=method, preservation=opened)
    return fit(attached, given), opened


@pytest.mark.parametrize("method", [LORA, Full()], ids=["lora", "full"])
def test_what_has_no_weight_or_share_leaves_every_bit(
    base: Base, work: Path, method: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, _ = preserved(base, method, work / "plain", None)
    options = [
        {"replay": {"from": "known", "weight": 0.0}, "distill": {"on": "self", "share": 0.0}},
        {"replay": {"from": "known", "share": 0.0}, "distill": {"on": "self", "weight": 0.0}},
        {"replay": {"from": "known", "share": 0.0}, "distill": {"on": "replay"}},
    ]
    for number, without_effect in enumerate(options):
        other, opened = preserved(base, method, work / str(number), without_effect)
        assert opened is None
        assert "train x: preserve has no effect: no weight, or no share\n" in capsys.readouterr().err
        assert equal_states(state(other.model), state(plain.model))
        assert other.curve == plain.curve


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (LORA, {**REPLAY, **DISTILL}),
        (LORA, {**REPLAY, "distill": {"on": "replay", "direction": "reverse"}}),
        (Full(), {**REPLAY, **DISTILL}),
    ],
    ids=["lora, both", "lora, shared rows", "full, both"],
)
def test_killed_and_resumed_gives_the_same_bits(base: Base, work: Path, method: Any, options: Any) -> None:
    changes = {"epochs": 2, "save_steps": 3, "lr_scheduler_type": "cosine"}
    whole, _ = preserved(base, method, work / "whole", options, **changes)
    with (
        counted_calls(KnowledgeTrainer, "compute_loss", 6, KeyboardInterrupt()),  # type: ignore[arg-type]
        pytest.raises(KeyboardInterrupt),
    ):
        preserved(base, method, work / "parts", options, **changes)
    parts, _ = preserved(base, method, work / "parts", options, **changes)
    assert equal_states(state(parts.model), state(whole.model))
    assert parts.curve == whole.curve
    assert {point["split"] for point in whole.curve} == {"train", *(set(options))}
    plain, _ = preserved(base, method, work / "plain", None, **changes)
    assert not equal_states(state(plain.model), state(whole.model))


def test_accumulation_changes_rounding_alone(base: Base, work: Path) -> None:
    options = {**REPLAY, "distill": {"on": "self", "share": 0.5, "temperature": 2.0}}
    once, _ = preserved(base, Full(), work / "a", options, batch_size=8, max_grad_norm=1e9)
    four, _ = preserved(
        base, Full(), work / "b", options, batch_size=2, gradient_accumulation_steps=4, max_grad_norm=1e9
    )
    for one, other in zip(once.curve, four.curve, strict=True):
        assert one["split"] == other["split"]
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-4)


def test_the_base_is_untouched_and_forgets_less(base: Base, work: Path) -> None:
    pristine = state(base.model())
    options = {"distill": {"on": "self", "share": 2.0, "weight": 5.0}}
    fitted, opened = preserved(base, LORA, work, options, epochs=4, learning_rate=2e-2)
    plain, _ = preserved(base, LORA, work / "plain", None, epochs=4, learning_rate=2e-2)
    for name, tensor in fitted.model.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, pristine[name.removeprefix("base_model.model.").replace(".base_layer", "")])
    trained = [name for name, p in fitted.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert opened is not None
    assert opened.summary()["teacher"] == "the model with its adapter off"
    inputs = base.task.inputs(material(base).sequences["self"])
    then, now, without = (
        model(**inputs).logits.log_softmax(-1).detach() for model in (base.model(), fitted.model, plain.model)
    )
    far, farther = ((then.exp() * (then - other)).sum(-1).mean() for other in (now, without))
    assert far < farther / 2


def test_a_term_that_is_not_finite_is_named(base: Base) -> None:
    for options, term in ((REPLAY, "replay"), (DISTILL, "distill")):
        opened = open_preservation(Preserve.model_validate(options), material(base), base, 0, "train x")
        assert opened is not None
        model: Any = base.model()
        opened.see_base(model)
        opened.see_attached(model)
        with torch.no_grad():
            model.lm_head.weight[3] = torch.inf
        with pytest.raises(UserError, match=rf"^train x: preserve\.{term} is not finite at step 8; sequences: \w+-\d"):
            opened.loss(model, model, Part(step=7, rows_before=0, rows=8))


def test_replay_leaves_the_task_as_it_is(base: Base, work: Path) -> None:
    """Its loss, dropout included, at a rate that changes nothing; the curve has the terms without their weights."""
    still = {"learning_rate": 1e-12, "epochs": 2}
    plain, _ = preserved(base, LORA, work / "plain", None, **still)
    options = {"replay": {"from": "known", "weight": 3.0}, "distill": {"on": "self", "weight": 2.0}}
    other, _ = preserved(base, LORA, work / "other", options, **still)
    losses = {
        split: torch.tensor([point["loss"] for point in other.curve if point["split"] == split])
        for split in ("train", "replay", "distill")
    }
    task = losses["train"] - 3 * losses["replay"] - 2 * losses["distill"]
    torch.testing.assert_close(task, torch.tensor([point["loss"] for point in plain.curve]), atol=1e-5, rtol=0)
    assert losses["replay"].min() > 0.1
    assert losses["distill"].abs().max() < 1e-6
