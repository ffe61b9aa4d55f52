from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.base import Method
from knowtune.methods.fish.method import Fish
from knowtune.methods.full import Full
from knowtune.methods.kasa.method import Kasa
from knowtune.methods.lora import Lora
from knowtune.methods.peft import REFUSED, Peft
from knowtune.methods.peft_changes import CHANGES
from knowtune.preserve.changes import Delta, Parameter
from knowtune.preserve.find_changes import find_changes
from tests.unit.methods.test_peft import TYPES, made, with_warnings
from tests.unit.preserve.test_anchor import LORA, attached, information, opened, shake, square

OTHERS = [name for name in TYPES if name not in CHANGES and name not in REFUSED]
WHERE = "runs.x.preserve.anchor"


@pytest.mark.parametrize("name", [with_warnings(name) for name in sorted(CHANGES)])
def test_the_change_of_every_type_is_what_merging_adds(name: str, base: Base) -> None:
    method, fisher = made(name), information(base)
    model = shake(attached(base, method))
    plain, weighted = opened(model), opened(model, fisher, form="ewc")
    assert method.computes_change
    found = square(plain, model), square(weighted, model)
    plain.square(model).backward()  # type: ignore[no-untyped-call]
    assert any(p.grad is not None and bool((p.grad != 0).any()) for p in model.parameters())
    pristine = dict(base.model().named_parameters())
    changes = {
        weight: (parameter - pristine[weight]).detach().double().square()
        for weight, parameter in method.fold(model).named_parameters()
    }
    assert found[0] == pytest.approx(sum(float(change.sum()) for change in changes.values()), rel=1e-3) != 0
    expected = sum(float((change * fisher(weight)).sum()) for weight, change in changes.items())
    assert found[1] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "method", [Kasa(rank=2, alpha=6.0), Peft(type="lora", kasa_config={"beta": 0.0}, target_modules=["q_proj"])]
)
def test_the_change_of_kasa_is_all_of_it(method: Method, base: Base) -> None:
    """What it drops of the base at its start, too: it is pulled back to the base from its first step."""
    fisher = information(base)
    model = attached(base, method)
    assert method.computes_change
    start = square(opened(model), model)
    shake(model)
    plain, weighted = opened(model), opened(model, fisher, form="ewc")
    found = square(plain, model), square(weighted, model)
    pristine = dict(base.model().named_parameters())
    changes = {
        name: (p - pristine[name]).detach().double().square() for name, p in method.fold(model).named_parameters()
    }
    assert found[0] == pytest.approx(sum(float(change.sum()) for change in changes.values()), rel=1e-4) != 0
    assert found[1] == pytest.approx(sum(float((c * fisher(n)).sum()) for n, c in changes.items()), rel=1e-4)
    smallest = [torch.linalg.svdvals(pristine[weight.weight].detach().double())[-2:] for weight in plain.changes]
    if isinstance(method, Kasa):
        assert start == pytest.approx(sum(float(values.square().sum()) for values in smallest), rel=1e-4) != 0


@pytest.mark.parametrize("name", [with_warnings(name) for name in OTHERS])
def test_other_types_are_held_by_their_parameters_alone(
    name: str, base: Base, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(work / "extensions"))  # boft tries to build one
    method = made(name)
    assert not method.computes_change
    model = attached(base, method)
    with pytest.raises(UserError) as caught:
        find_changes(model, of="change", where=WHERE)
    assert str(caught.value).startswith(f"{WHERE}: got of: change, but {name} of PEFT's {name} gives no change of ")
    assert str(caught.value).endswith("; allowed: of: parameters")
    with pytest.raises(UserError, match=f"^{WHERE}: got form: ewc, but .*; allowed: form: l2 with of: parameters; or "):
        find_changes(model, of="change", where=WHERE, fisher=information(base))
    anchor = opened(model, of="parameters")
    assert square(anchor, model) == 0
    assert square(anchor, shake(model)) > 0


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"use_dora": True}, "gives no change of weights"),
        ({"lora_bias": True}, "gives no change of weights"),
        ({"init_lora_weights": "pissa"}, "pissa starts by changing the base's weights"),
        ({"init_lora_weights": "olora"}, "olora starts by changing the base's weights"),
    ],
)
def test_a_lora_that_changes_more_or_begins_elsewhere(encoder: Base, options: dict[str, Any], fault: str) -> None:
    method = Peft(type="lora", target_modules=["query"], **options)
    assert not method.computes_change
    with pytest.raises(UserError, match=fault):
        find_changes(attached(encoder, method), of="change", where=WHERE)


def test_embeddings_convolved_ranks_and_their_scales(base: Base) -> None:
    """Another rank and scale a module, embeddings and a tied output layer, each use of it by itself."""
    method = Peft(
        type="lora", r=3, lora_alpha=5, use_rslora=True, rank_pattern={"q_proj": 2},
        target_modules=["q_proj", "embed_tokens", "lm_head"],
    )  # fmt: skip
    model = shake(attached(base, method))
    anchor, weighted = opened(model), opened(model, information(base), form="ewc")
    names = sorted({change.weight for change in weighted.changes})
    assert names[0] == "model.embed_tokens.weight"  # the tied tensor's first name, for both uses
    assert not any("lm_head" in name for name in names)
    found = square(anchor, model)
    pristine = base.model().state_dict()
    changes = [
        float((p - pristine[name]).detach().double().square().sum())
        for name, p in method.fold(model).state_dict().items()
    ]
    assert found == pytest.approx(sum(changes), rel=1e-4)


def test_modules_that_are_trained_whole_and_biases_are_held_at_the_base(base: Base) -> None:
    model = attached(base, Peft(type="lora", modules_to_save=["model.norm"]))
    changes = find_changes(model, of="change", where=WHERE, fisher=information(base))
    whole = [change for change in changes if isinstance(change, Parameter)]
    assert [(change.weight, change.start) for change in whole] == [
        ("model.norm.weight", "base_model.model.model.norm.original_module.weight")
    ]
    anchor = opened(model)
    with torch.no_grad():
        model.get_parameter(whole[0].name).add_(0.5)
    assert square(anchor, model) == pytest.approx(0.25 * 64)


def test_biases_that_are_trained_beside_an_adapter(encoder: Base) -> None:
    model = attached(encoder, Peft(type="lora", bias="all", target_modules=["query"]))
    anchor = opened(model)
    biases = {change.weight for change in anchor.changes if isinstance(change, Parameter)}
    assert "bert.encoder.layer.0.attention.self.query.bias" in biases
    assert square(anchor, model) == 0
    assert square(anchor, shake(model)) > 0


class TestNewHead:
    def test_nothing_holds_it(self, encoder: Base, decoder: Base) -> None:
        for base, new in ((encoder, "classifier"), (decoder, "score")):
            for method in (Full(), LORA):
                for of in ("change", "parameters"):
                    changes = find_changes(attached(base, method), of=of, where=WHERE)
                    assert len(changes) > 2
                    assert not [change for change in changes if new in change.weight]

    def test_a_head_that_the_base_has_is_held(self, decoder: Base, work: Path) -> None:
        model = attached(decoder, Full())
        model.new_weights = []
        assert "score.weight" in {change.weight for change in find_changes(model, of="change", where=WHERE)}

    def test_nothing_but_it_is_nothing_to_hold(self, decoder: Base) -> None:
        model = decoder.model().requires_grad_(False)
        model.score.requires_grad_(True)
        with pytest.raises(UserError, match=r"^runs.x.preserve.anchor: nothing to hold: all that is trained is new"):
            find_changes(model, of="change", where=WHERE)


def test_fisher_information_lies_at_the_masked_entries(base: Base) -> None:
    fisher, model = information(base), attached(base, Fish())
    (first, *_) = found = find_changes(model, of="change", where=WHERE, fisher=fisher)
    assert isinstance(first, Parameter)
    assert first.fisher is not None
    assert torch.equal(first.fisher, fisher("model.embed_tokens.weight").flatten()[::7])
    assert sum(len(model.get_parameter(change.name)) for change in found) == sum(
        len(range(0, p.numel(), 7))
        for p in base.model().parameters()  # a tied one once
    )


def test_a_mask_inside_of_an_adapter_is_held_by_what_the_adapter_computes(base: Base, work: Path) -> None:
    adapter = shake(attached(base, LORA))
    LORA.save(adapter, work)
    names = [name for name, p in adapter.named_parameters() if p.requires_grad]
    mask = {name: torch.tensor([0, 5, 9]) for name in names}
    model: Any = Fish().attach_masked(base.model(), mask, work)
    changes = find_changes(model, of="change", where=WHERE)
    assert all(isinstance(change, Delta) for change in changes)
    anchor = opened(model)
    expected = square(opened(adapter), adapter)
    assert square(anchor, model) == pytest.approx(expected, rel=1e-5)
    anchor.square(model).backward()  # type: ignore[no-untyped-call]
    assert all(bool((p.grad != 0).any()) for p in model.parameters() if p.requires_grad and p.grad is not None)
    assert square(opened(model, of="parameters"), model) == 0


def test_only_the_rank_squared_is_made(base: Base) -> None:
    """The same adapter at rank 1 and of another shape: alpha / r scales it."""
    model = attached(base, Lora(rank=1, alpha=3.0, target_modules=["down_proj"]))
    layer = model.get_base_model().model.layers[0].mlp.down_proj
    with torch.no_grad():
        layer.lora_A["default"].weight.fill_(1.0)
        layer.lora_B["default"].weight.fill_(0.5)
    # s^2 |b|^2 |a|^2 = 9 * (64 / 4) * 128
    assert square(opened(model), model) == pytest.approx(9 * 16 * 128)
