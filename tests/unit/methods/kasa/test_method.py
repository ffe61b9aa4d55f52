"""KaSA as a method of the pipeline: options, the loss with its penalties, and everything from checkpoint to fold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.fish.method import Fish
from knowtune.methods.kasa.method import Kasa
from knowtune.methods.kasa.picture import PICTURE
from knowtune.methods.kasa.tuner.files import FILE
from knowtune.methods.kasa.tuner.install import as_in_peft
from knowtune.methods.lora import Lora
from knowtune.methods.peft import Peft
from knowtune.models.forward import forward
from knowtune.models.heads import head_outputs
from knowtune.registry import Context
from knowtune.selectors.artefact import open_selection
from knowtune.selectors.fish import Fish as FishSelector
from knowtune.selectors.run import ChoiceJob, Warmup, choose_seed
from knowtune.training.fit import fit, seed_everything
from knowtune.training.recipe import ShortTraining
from knowtune.training.trainer import KnowledgeTrainer
from tests.unit.helpers import (
    counted_calls,
    encoded,
    equal_states,
    fact_rows,
    recipe,
    review_rows,
    state,
    train,
    training,
)
from tests.unit.methods.kasa.tuner.models import gpt2

IDS = [[1, 5, 9, 30, 200], [7, 8]]


def made(**options: Any) -> Kasa:
    return Kasa(**{"rank": 3, "alpha": 6.0, **options})


def trained_parts(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for _, p in sorted(model.named_parameters()) if p.requires_grad])


def test_options_become_pefts(base: Base) -> None:
    model: Any = made(dropout=0.25, target_modules=["q_proj"], beta=0.5, gamma=0.25).attach(base.model())
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout, config.target_modules) == (3, 6.0, 0.25, {"q_proj"})
    assert (config.kasa_config.beta, config.kasa_config.gamma) == (0.5, 0.25)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * (3 * (64 + 64) + 3)


def test_it_trains_lora_and_one_value_more_for_each_component(base: Base) -> None:
    counts = [
        sum(p.numel() for p in method.attach(base.model()).parameters() if p.requires_grad)
        for method in (made(), Lora(rank=3, alpha=6.0))
    ]
    assert counts[0] == counts[1] + 14 * 3


class TestLoss:
    def descend(self, base: Base, work: Path, method: Kasa, num: int = 8, **options: Any) -> Any:
        seed_everything(0)
        model = method.attach(base.model())
        plain = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        rows = encoded(base, fact_rows().head(num))
        made_recipe = recipe(learning_rate=0.1, max_grad_norm=1e9, **options)
        return fit(model, training(rows, work, made_recipe, method=method, optimizer=plain))

    def test_one_batch_and_four_accumulated_ones_train_the_same(self, base: Base, work: Path) -> None:
        method = made(beta=0.5, gamma=0.1)
        one = self.descend(base, work / "one", method, batch_size=8, epochs=3)
        four = self.descend(base, work / "four", method, batch_size=2, gradient_accumulation_steps=4, epochs=3)
        without = self.descend(base, work / "without", made(beta=0.0, gamma=0.0), batch_size=8, epochs=3)
        assert one.num_steps == four.num_steps == 3
        assert (trained_parts(one.model) - trained_parts(four.model)).abs().max() < 1e-6
        assert (trained_parts(one.model) - trained_parts(without.model)).abs().max() > 1e-3
        assert [e["loss"] for e in one.curve] == pytest.approx([e["loss"] for e in four.curve], rel=1e-5)

    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_the_first_step_on_ds_is_the_penaltys(self, base: Base, work: Path, reduction: Any) -> None:
        """With B = 0 the task has no gradient there: ds <- ds - lr 2 beta ds / layers."""
        method = made(beta=0.5, gamma=0.0, reduction=reduction)
        seed_everything(0)
        start = {name: p.detach().clone() for name, p in method.attach(base.model()).named_parameters()}
        fitted = self.descend(base, work, method, batch_size=8)
        share = 0.1 * 2 * 0.5 / (14 if reduction == "mean" else 1)
        for name, parameter in fitted.model.named_parameters():
            if "lora_diag" in name:
                assert torch.allclose(parameter, (1 - share) * start[name], atol=1e-6)
            elif "lora_A" in name:
                assert torch.equal(parameter, start[name])

    def test_the_form_and_the_reduction_matter(self, base: Base, work: Path) -> None:
        found = []
        for number, options in enumerate(({}, {"form": "released"}, {"reduction": "sum"})):
            fitted = self.descend(base, work / str(number), made(gamma=0.5, **options), batch_size=8)
            found.append(trained_parts(fitted.model))
        assert all((found[0] - other).abs().max() > 1e-4 for other in found[1:])


def test_a_killed_run_resumes_to_the_same_bits(base: Base, work: Path) -> None:
    method, options = made(), {"batch_size": 2, "save_steps": 1}
    whole = train(base, method, fact_rows().head(6), work / "whole", **options)
    with (
        counted_calls(KnowledgeTrainer, "compute_loss", 3, RuntimeError("killed")),
        pytest.raises(RuntimeError, match="killed"),
    ):
        train(base, method, fact_rows().head(6), work / "parts", **options)
    assert list((work / "parts").rglob(FILE))  # a checkpoint is an adapter
    parts = train(base, method, fact_rows().head(6), work / "parts", **options)
    assert equal_states(state(parts.model), state(whole.model))


def test_plain_peft_loads_what_was_saved(base: Base, work: Path) -> None:
    method = made()
    model = train(base, method, fact_rows().head(8), work).model
    method.save(model, work / "saved")
    assert sorted(p.name for p in (work / "saved").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        FILE,
        PICTURE,
    ]
    assert (work / "saved" / PICTURE).read_text().startswith("<svg")
    assert json.loads((work / "saved" / "adapter_config.json").read_text())["kasa_config"] == {
        "beta": 1e-4,
        "gamma": 1e-3,
    }
    with torch.inference_mode():
        trained = forward(model, IDS)
        with as_in_peft():
            plain = PeftModel.from_pretrained(base.model(), work / "saved").eval()
            assert (forward(plain, IDS) - trained).abs().max() < 1e-4


def test_the_folded_weight_is_the_equation_from_the_pristine_base(base: Base, work: Path) -> None:
    method = made()
    model: Any = train(base, method, fact_rows().head(8), work, learning_rate=0.05).model
    layer = model.base_model.model.model.layers[1].mlp.down_proj
    a, b, ds = (t.detach() for t in (layer.lora_A["default"].weight, layer.lora_B["default"].weight,
                                     layer.lora_diag["default"]))  # fmt: skip
    origin = base.model().model.layers[1].mlp.down_proj.weight.detach()
    left, values, right = torch.linalg.svd(origin.double(), full_matrices=False)
    values[-3:] = 0
    expected = (left * values) @ right + 2.0 * (b * ds) @ a
    assert b.abs().max() > 0
    folded: Any = method.fold(model)
    assert torch.allclose(folded.model.layers[1].mlp.down_proj.weight.double(), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_classifier_keeps_its_head(kind: str, request: pytest.FixtureRequest, work: Path) -> None:
    classifier: Base = request.getfixturevalue(kind)
    method = made(rank=2)
    fitted = train(classifier, method, review_rows().head(8), work, batch_size=4, epochs=2, learning_rate=0.02)
    method.save(fitted.model, work / "saved")
    rows: Any = classifier.task.encode(classifier.tokenizer(), review_rows().head(4))
    with torch.inference_mode():
        trained = head_outputs(fitted.model, rows, 4, "x")
        loaded = method.load(classifier.model(), work / "saved").eval()
        assert torch.equal(head_outputs(loaded, rows, 4, "x"), trained)
        assert (head_outputs(method.fold(loaded), rows, 4, "x") - trained).abs().max() < 1e-4


def test_a_model_of_conv1d_says_that_its_file_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    made().attach(gpt2())
    assert capsys.readouterr().err == (
        "kasa: The adapter changes Conv1D layers: PEFT loads it after `import knowtune` alone.\n"
    )


def test_others_say_nothing(base: Base, capsys: pytest.CaptureFixture[str]) -> None:
    made(target_modules=["q_proj"]).attach(base.model())
    assert "kasa" not in capsys.readouterr().err


class TestMasks:
    def mask(self, base: Base, share: float) -> dict[str, torch.Tensor]:
        linear = {n: p for n, p in base.model().named_parameters() if n.endswith("_proj.weight")}
        return {name: torch.arange(int(share * p.numel())) for name, p in linear.items()}

    def test_equal_shares_are_plain_kasa_bit_for_bit(self, base: Base) -> None:
        states = []
        for masked in (False, True):
            torch.manual_seed(0)
            mask = self.mask(base, 0.25)
            method = made()
            attached = method.attach_masked(base.model(), mask, None) if masked else method.attach(base.model())
            states.append(state(attached))
        assert equal_states(*states)

    def test_a_module_drops_as_many_components_as_it_has_ranks(self, base: Base) -> None:
        mask = {"model.layers.1.self_attn.k_proj.weight": torch.arange(32 * 64)}  # all of a 32 x 64 weight
        model: Any = made(rank=16).attach_masked(base.model(), mask, None)
        layers = {path: m for path, m in model.base_model.model.named_modules() if hasattr(m, "kasa_P")}
        assert list(layers) == ["model.layers.1.self_attn.k_proj"]
        (layer,) = layers.values()
        assert layer.r["default"] == layer.kasa_P["default"].shape[1] == 31  # one singular value stays

    def test_a_mask_of_an_adapter_is_not_kasas(self, base: Base, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"^kasa: the mask is of an adapter that the selection hands on; use"):
            made().attach_masked(base.model(), {}, tmp_path)


def test_a_selection_can_choose_among_its_parameters(base: Base, tmp_path: Path) -> None:
    """Its singular values too; the rest of the adapter stays what the warm-up made of it."""
    warmup = Warmup("kasa", made(), ShortTraining(steps=6, learning_rate=0.01, batch_size=4))
    job = ChoiceJob("s", "fish", FishSelector(budget=0.5, samples=4), 0, fact_rows().head(8), warmup=warmup)
    choose_seed(job, base, tmp_path / "chosen", tmp_path / "work")
    chosen = open_selection(tmp_path / "chosen")
    assert chosen.adapter is not None and chosen.mask is not None
    assert any("lora_diag" in name for name in chosen.mask)
    method = Fish()
    seed_everything(0)
    before = state(method.load(base.model(), chosen.adapter))
    attached = method.attach_masked(base.model(), chosen.mask, chosen.adapter)
    fitted = fit(attached, training(encoded(base, fact_rows().head(8)), tmp_path / "train", recipe(), method=method))
    method.save(fitted.model, tmp_path / "saved")
    loaded = method.load(base.model(), tmp_path / "saved")
    with torch.inference_mode():
        assert torch.equal(forward(loaded, IDS), forward(fitted.model, IDS))
        assert (forward(method.fold(loaded), IDS) - forward(fitted.model, IDS)).abs().max() < 1e-4
    after = state(method.load(base.model(), tmp_path / "saved"))
    for name, tensor in after.items():
        moved = (tensor != before[name]).flatten().nonzero().flatten().tolist()
        allowed = chosen.mask.get(name.replace(".default", ""), chosen.mask.get(name, torch.empty(0))).tolist()
        assert set(moved) <= set(allowed), name
    assert not equal_states(before, after)


class TestRefusals:
    def context(self, *, quantized: bool = False, **build: int) -> Context:
        given: dict[str, Any] = {"section": {"method": "kasa"}, "task": "knowledge", "base": {"build": build}}
        return Context("runs.k", quantized=quantized, has_validation=True, has_replay=True, deep=False, **given)

    def test_a_quantised_base(self) -> None:
        assert made().demands(self.context(quantized=False)) == []
        assert [str(problem) for problem in made().demands(self.context(quantized=True))] == [
            "runs.k.method: got 'kasa' on a quantised base, whose packed weights have no singular values to drop; "
            "allowed: lora, or quantize: none"
        ]

    def test_a_quantised_base_by_pefts_options(self) -> None:
        method = Peft(type="lora", kasa_config={})
        assert method.demands(self.context(quantized=False)) == []
        assert [str(problem) for problem in method.demands(self.context(quantized=True))] == [
            "runs.k.options.kasa_config: got KaSA on a quantised base, whose packed weights have no singular values to "
            "drop; allowed: quantize: none, or leave it out"
        ]

    @pytest.mark.parametrize("start", ["pissa", "olora"])
    def test_a_start_by_pefts_options_that_writes_the_base(self, start: str, base: Base) -> None:
        method = Peft(type="lora", r=2, init_lora_weights=start, kasa_config={})
        assert [str(problem) for problem in method.demands(self.context())] == [
            f"runs.k.options.init_lora_weights: got {start!r} beside kasa_config: it writes the base's weights, which "
            "KaSA leaves as they are; allowed: true, false, gaussian or orthogonal"
        ]
        with pytest.raises(UserError, match=f"init_lora_weights: '{start}': it writes the base's weights"):
            method.attach(base.model())
        assert Peft(type="lora", r=2, init_lora_weights=start).demands(self.context()) == []
        for other in (True, "gaussian", "orthogonal"):
            assert Peft(type="lora", r=2, init_lora_weights=other, kasa_config={}).demands(self.context()) == []

    def test_a_rank_by_pefts_options_that_the_embedded_base_has_no_room_for(self) -> None:
        sizes = self.context(hidden_size=64, intermediate_size=80)
        options = {"type": "lora", "kasa_config": {}}
        assert [str(problem) for problem in Peft(r=128, **options).demands(sizes)] == [
            "runs.k.options.r: got 128 for weights of 64 singular values, of which as many as the rank are dropped; "
            "allowed: at most 63"
        ]
        assert Peft(r=63, **options).demands(sizes) == []
        narrow = self.context(hidden_size=80, intermediate_size=8)  # PEFT's own rank is 8
        assert len(Peft(target_modules="all-linear", **options).demands(narrow)) == 1
        assert Peft(**options).demands(narrow) == Peft(r=8, rank_pattern={"q_proj": 2}, **options).demands(narrow) == []

    @pytest.mark.parametrize("targets", ["all-linear", ["up_proj"]])
    def test_a_rank_that_the_embedded_base_has_no_room_for(self, targets: Any) -> None:
        method = made(rank=64, target_modules=targets)
        assert method.demands(self.context(hidden_size=65, intermediate_size=65)) == []
        assert [str(problem) for problem in method.demands(self.context(hidden_size=64, intermediate_size=80))] == [
            "runs.k.options.rank: got 64 for weights of 64 singular values, of which as many as the rank are dropped; "
            "allowed: at most 63"
        ]
        narrow = self.context(hidden_size=80, intermediate_size=64)
        assert bool(method.demands(narrow)) == (targets == "all-linear")  # by name it may be one of attention

    def test_a_rank_that_leaves_nothing(self, base: Base) -> None:
        with pytest.raises(
            UserError, match=r"got 32 for model\.layers\.0\.self_attn\.k_proj \(32 x 64\); allowed: at most 31$"
        ):
            made(rank=32, target_modules=["k_proj"]).attach(base.model())

    def test_a_layer_that_is_not_linear(self, base: Base) -> None:
        with pytest.raises(UserError, match=r"^kasa: target_modules names model\.embed_tokens, a layer of type Emb"):
            made(target_modules=["embed_tokens"]).attach(base.model())

    def test_modules_that_are_not_there(self, base: Base) -> None:
        with pytest.raises(UserError, match=r"PEFT cannot attach .*Target modules \{'nothing'\} not found"):
            made(target_modules=["nothing"]).attach(base.model())

    def test_a_weight_that_is_not_finite(self, base: Base) -> None:
        model = base.model()
        model.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("nan")
        with pytest.raises(UserError, match="the weight has entries that are not finite"):
            made().attach(model)

    @pytest.mark.parametrize(
        "options",
        [{"beta": -1e-9}, {"gamma": -1.0}, {"reduction": "max"}, {"form": "peft"}, {"rank": 0}, {"beta": float("nan")}],
    )
    def test_bounds(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            made(**options)
