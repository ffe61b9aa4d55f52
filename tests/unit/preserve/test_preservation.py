from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.fish.method import Fish
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.preserve import reading
from knowtune.preserve.fisher_file import open_fisher, write_fisher
from knowtune.preserve.options import Preserve
from knowtune.preserve.part import Part
from knowtune.preserve.preservation import Preservation, open_preservation
from knowtune.preserve.sources import Material
from knowtune.text.encoded import Encoded
from knowtune.training.fit import Fitted, fit, seed_everything
from knowtune.training.trainer import KnowledgeTrainer
from tests.unit.helpers import counted_calls, encoded, equal_states, fact_rows, recipe, state, training
from tests.unit.preserve.terms import term_of

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
    if isinstance(method, Fish):
        mask = {name: torch.arange(0, p.numel(), 7) for name, p in model.named_parameters()}
        attached = method.attach_masked(model, mask, None)
    else:
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
        {"anchor": {"weight": 0.0}},
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
        (LORA, {**REPLAY, "distill": {"on": "replay", "direction": "reverse"}, "anchor": {"weight": 0.5}}),
        (Full(), {**REPLAY, **DISTILL, "anchor": {"weight": 0.5}}),
        (Fish(), {"anchor": {"weight": 5.0, "decoupled": True}}),
    ],
    ids=["lora, shared rows", "full, all", "fish, decoupled"],
)
def test_killed_and_resumed_gives_the_same_bits(base: Base, work: Path, method: Any, options: Any) -> None:
    changes = {"epochs": 2, "save_steps": 3, "lr_scheduler_type": "cosine"}
    whole, _ = preserved(base, method, work / "whole", options, **changes)
    with (
        counted_calls(KnowledgeTrainer, "compute_loss", 6, KeyboardInterrupt()),  # type: ignore[arg-type]
        pytest.raises(KeyboardInterrupt),
    ):
        preserved(base, method, work / "parts", options, **changes)
    assert list((work / "parts").rglob("checkpoint-*"))
    parts, _ = preserved(base, method, work / "parts", options, **changes)
    assert equal_states(state(parts.model), state(whole.model))
    assert parts.curve == whole.curve
    logged = {name for name in options if name != "anchor" or not options["anchor"].get("decoupled", False)}
    assert {point["split"] for point in whole.curve} == {"train", *logged}
    plain, _ = preserved(base, method, work / "plain", None, **changes)
    assert not equal_states(state(plain.model), state(whole.model))


def test_passes_change_rounding_alone(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**REPLAY, "distill": {"on": "self", "share": 1.0, "temperature": 2.0}}
    found = []
    for tokens in (512, 64, 16, 1):
        monkeypatch.setattr(reading, "PASS", tokens)
        opened = open_preservation(Preserve.model_validate(options), material(base), base, 0, "train x")
        assert opened is not None
        model: Any = base.model().train()
        opened.see_base(model)
        opened.see_attached(model)
        torch.manual_seed(1)
        model.lm_head.weight.data += 0.05 * torch.randn_like(model.lm_head.weight)
        terms = list(opened.terms(model, Part(0, 0, 8), 1))
        sum(terms).backward()  # type: ignore[union-attr]
        found.append((len(terms), torch.stack(terms).sum().detach(), model.model.norm.weight.grad, opened.take_means()))
    assert [num for num, *_ in found] == [2, 3, 8, 12]
    for _, loss, gradient, means in found[1:]:
        torch.testing.assert_close(loss, found[0][1])
        torch.testing.assert_close(gradient, found[0][2], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(means, found[0][3])


def test_accumulation_changes_rounding_alone(base: Base, work: Path) -> None:
    options = {**REPLAY, "distill": {"on": "self", "share": 0.5, "temperature": 2.0}}
    once, _ = preserved(base, Full(), work / "a", options, batch_size=8, max_grad_norm=1e9)
    four, _ = preserved(
        base, Full(), work / "b", options, batch_size=2, gradient_accumulation_steps=4, max_grad_norm=1e9
    )
    for one, other in zip(once.curve, four.curve, strict=True):
        assert one["split"] == other["split"]
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-4)
    before, ends = base.model().state_dict(), (state(once.model), state(four.model))
    for name, start in before.items():
        assert (ends[0][name] - ends[1][name]).norm() < 1e-4 * (ends[0][name] - start).norm()


@pytest.mark.parametrize("num", [16, 14])
def test_an_anchor_counts_once_however_a_step_is_shared_out(base: Base, work: Path, num: int) -> None:
    """16 rows in two whole steps, 14 in one and a smaller one: plain descent ends in the same weights."""
    ends = []
    for size, parts in ((8, 1), (2, 4)):
        options = {"anchor": {"weight": 50.0}}
        opened = open_preservation(Preserve.model_validate(options), material(base), base, 0, "train x")
        assert opened is not None
        model = base.model().requires_grad_(True)
        opened.see_attached(model)
        rows = encoded(base, fact_rows().head(num))
        made = recipe(batch_size=size, gradient_accumulation_steps=parts, max_grad_norm=1e9, learning_rate=1e-2)
        plain = torch.optim.SGD(model.parameters(), lr=1e-2)
        given = training(rows, work / str(parts), made, task=base.task, preservation=opened, optimizer=plain)
        ends.append(fit(model, given))
    one, four = (end.model.state_dict() for end in ends)
    assert all(torch.allclose(one[name], four[name], atol=1e-6) for name in one)
    assert [point["loss"] for point in ends[0].curve] == pytest.approx([p["loss"] for p in ends[1].curve], rel=2e-4)
    assert ends[0].curve[-1]["split"] == "anchor"
    assert float(ends[0].curve[-1]["loss"]) > 1e-6


def test_the_parts_of_two_processes_add_up_to_one_penalty(base: Base) -> None:
    opened = open_preservation(Preserve.model_validate({"anchor": {"weight": 2.0}}), material(base), base, 0, "train x")
    assert opened is not None
    model = base.model().requires_grad_(True)
    opened.see_attached(model)
    with torch.no_grad():
        model.model.norm.weight.add_(0.25)  # type: ignore[operator, union-attr]
    parts = [Part(step=0, rows_before=0, rows=8, number=n, parts=6, num_processes=2) for n in range(6)]
    terms = [float(term_of(opened, model, part).detach()) for part in parts]  # type: ignore[union-attr]
    assert sum(terms) / 2 == pytest.approx(64 * 0.25**2)  # processes are averaged
    assert float(opened.take_means()["anchor"]) / 2 == pytest.approx(32 * 0.25**2)
    assert opened.take_means() == {}


def test_a_teacher_and_an_anchor_share_one_copy_of_the_base(base: Base) -> None:
    options = Preserve.model_validate({**DISTILL, "anchor": {"weight": 1.0}})
    opened = open_preservation(options, material(base), base, 0, "train x")
    assert opened is not None
    model: Any = base.model()
    opened.see_base(model)
    opened.see_attached(Full().attach(model))
    assert opened.anchor is not None
    teacher: Any = opened.readings[0].comparison.teacher  # type: ignore[union-attr]
    kept = {change.start.data_ptr() for change in opened.anchor.changes}  # type: ignore[union-attr]
    assert kept == {p.data_ptr() for p in teacher.model.parameters()}


def test_ewc_reads_what_the_stage_wrote(base: Base, work: Path) -> None:
    options = {"anchor": {"form": "ewc", "weight": 1e4, "from": "known"}}
    preserve = Preserve.model_validate(options)
    assert preserve.anchor is not None
    with pytest.raises(UserError, match=r"^train x: preserve.anchor: no folder with its Fisher information; "):
        open_preservation(preserve, material(base), base, 0, "train x")
    work.mkdir()
    write_fisher(base, material(base), preserve.anchor, work)
    kept = replace(material(base), folder=work)
    ends = []
    for held in (preserve, None):
        opened = None if held is None else open_preservation(held, kept, base, 0, "train x")
        seed_everything(0)
        model = LORA.attach(base.model())
        if opened is not None:
            opened.see_attached(model)
        rows = encoded(base, fact_rows()[8:])
        ends.append(fit(model, training(rows, work / str(held is None), preservation=opened, task=base.task)))
    fisher = {name: open_fisher(base, kept, preserve.anchor, work)(name) for name in base.model().state_dict()
              if name != "lm_head.weight"}  # fmt: skip
    pristine, moved = base.model().state_dict(), []
    for end in ends:
        folded = LORA.fold(end.model).state_dict()
        moved.append(sum(float((f * (folded[name] - pristine[name]).square()).sum()) for name, f in fisher.items()))
    assert 0 < moved[0] < moved[1] / 2


def test_a_penalty_that_is_not_finite_is_named(base: Base) -> None:
    opened = open_preservation(Preserve.model_validate({"anchor": {"weight": 1.0}}), material(base), base, 0, "train x")
    assert opened is not None
    model: Any = base.model().requires_grad_(True)
    opened.see_attached(model)
    with torch.no_grad():
        model.lm_head.weight[3] = torch.inf
    with pytest.raises(UserError, match=r"^train x: preserve.anchor is not finite at step 8. Lower its weight "):
        term_of(opened, model, Part(step=7, rows_before=0, rows=8))


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
            term_of(opened, model, Part(step=7, rows_before=0, rows=8))


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


def test_several_sources_are_compared_each_with_a_mean_of_its_own(base: Base) -> None:
    given = {"replay": {"share": 0.5, "weight": 0.0}, "distill": {"weight": 2.0}}

    def loss_on(read: Any) -> torch.Tensor:
        options = Preserve.model_validate({**given, "distill": {**given["distill"], "on": read}})
        opened = open_preservation(options, material(base), base, 0, "train x")
        assert opened is not None
        model: Any = base.model()
        opened.see_base(model)
        attached = Full().attach(model)
        opened.see_attached(attached)
        assert len({id(r.comparison.teacher) for r in opened.readings if r.comparison is not None}) == 1
        attached.model.norm.weight.data *= 1.3
        loss = term_of(opened, attached, Part(0, 0, 16))
        torch.testing.assert_close(loss, 2.0 * opened.take_means()["distill"])
        return loss

    both = loss_on(["replay", "self"])
    torch.testing.assert_close(both, loss_on("replay") + loss_on(["self"]))


def test_a_source_that_is_read_twice_is_refused() -> None:
    for twice in (["self", "self"], ["replay", "known"]):
        with pytest.raises(ValueError, match="each source once"):
            Preserve.model_validate({**REPLAY, "distill": {"on": twice}})
