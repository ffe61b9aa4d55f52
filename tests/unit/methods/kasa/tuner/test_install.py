"""PEFT's KaSA is ours after `import knowtune`, to and from disk; and its adapters are PEFT's."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.variants import KasaLinearVariant
from safetensors.torch import load_file, save_file

from knowtune.methods.kasa.tuner import decompose, factors
from knowtune.methods.kasa.tuner.files import FILE, kasa_layers
from knowtune.methods.kasa.tuner.install import as_in_peft, install
from knowtune.methods.kasa.tuner.variant import ReversibleKasa
from knowtune.methods.peft_warnings import quiet_peft
from tests.unit.methods.kasa.tuner.models import Layers, attach, gpt2, llama, logits_of, shake

Counted = list[tuple[int, ...]]


@pytest.fixture
def decomposed(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Collect the shapes of the weights that are decomposed."""
    shapes: Counted = []

    def counted(weight: torch.Tensor, rank: int) -> Any:
        shapes.append(tuple(weight.shape))
        return decompose.smallest_components(weight, rank)

    monkeypatch.setattr(factors, "smallest_components", counted)
    return shapes


def load(model: Any, folder: Path, **options: Any) -> Any:
    with quiet_peft():
        return PeftModel.from_pretrained(model, folder, **options).eval()


def all_factors(model: Any, adapter: str = "default") -> list[torch.Tensor]:
    return [f for _, layer in kasa_layers(model, adapter) for f in (layer.kasa_P[adapter], layer.kasa_Q[adapter])]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_installed_twice_is_once() -> None:
    before = vars(PeftModel)["save_pretrained"]
    install()
    assert vars(PeftModel)["save_pretrained"] is before
    layer = attach(Layers()).base_model.model.tall
    assert type(layer.lora_variant["default"]) is layer.lora_variants["kasa_config",] is ReversibleKasa


def test_pefts_own_is_there_for_a_time_and_stays_what_it_is() -> None:
    with as_in_peft():
        theirs = shake(attach(Layers()))
        with pytest.raises(ValueError, match="KaSA cannot be combined"):
            theirs.add_adapter("plain", LoraConfig(target_modules=["tall"]))
    ours = attach(Layers())
    assert type(theirs.base_model.model.tall.lora_variant["default"]) is KasaLinearVariant
    assert type(ours.base_model.model.tall.lora_variant["default"]) is ReversibleKasa
    assert not list(kasa_layers(theirs, "default"))
    assert not torch.equal(theirs.base_model.model.tall.base_layer.weight, Layers().tall.weight)
    x = torch.randn(2, 8)
    with torch.no_grad():
        outside = theirs(x)
        with as_in_peft():
            assert torch.equal(theirs(x), outside)


def test_it_does_not_convert_to_lora() -> None:
    assert not attach(Layers()).supports_lora_conversion()


class TestMixing:
    def test_what_else_peft_checks_it_still_checks(self) -> None:
        model = attach(Layers(), bias="all")
        with pytest.raises(ValueError, match="supports only 1 adapter with bias"):
            model.add_adapter("biased", LoraConfig(target_modules=["tall"], bias="all"))
        assert model.peft_config["default"].kasa_config.beta == 1e-4  # hidden for the check alone

    def test_a_combination_by_weights_is_refused(self) -> None:
        """PEFT's has random singular values; of plain LoRA it stays what it is."""
        model = attach(Layers())
        for name in ("one", "two"):
            model.add_adapter(name, LoraConfig(r=2, target_modules=["tall"]))
        model.add_weighted_adapter(["one", "two"], [0.5, 0.5], "both", combination_type="linear")
        with pytest.raises(ValueError, match=r"^KaSA adapters cannot be combined by weights, .*: \['default'\]"):
            model.add_weighted_adapter(["one", "default"], [0.5, 0.5], "wrong", combination_type="linear")

    def test_dora_stands_beside_it(self) -> None:
        pristine = Layers()
        model = attach(copy.deepcopy(pristine))
        model.add_adapter("dora", LoraConfig(target_modules=["tall", "square"], use_dora=True))
        model.set_adapter("dora")
        x = torch.randn(3, 8)
        with torch.no_grad():
            assert torch.allclose(model(x), pristine(x), atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
class TestPlainPeft:
    """Equal logits on an untied layer; PEFT's truncates a tied embedding with its head, which all-linear leaves out."""

    def test_it_loads_what_was_trained_here(self, tied: bool, tmp_path: Path) -> None:
        model = shake(attach(llama(tied)))
        model.save_pretrained(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
            FILE,
        ]
        with as_in_peft():
            theirs = load(llama(tied), tmp_path)
            assert (logits_of(theirs) - logits_of(model)).abs().max() < 1e-4
            theirs.save_pretrained(tmp_path / "again")
        ours, again = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path, tmp_path / "again"))
        assert ours.keys() == again.keys() and all(torch.equal(ours[name], again[name]) for name in ours)
        configs = [json.loads((f / "adapter_config.json").read_text()) for f in (tmp_path, tmp_path / "again")]
        for config in configs:  # PEFT writes a set
            config["target_modules"].sort()
        assert configs[0] == configs[1] and configs[0]["peft_type"] == "LORA"

    def test_what_it_trained_loads_here(self, tied: bool, tmp_path: Path, decomposed: Counted) -> None:
        with as_in_peft():
            theirs = shake(attach(llama(tied)))
            theirs.save_pretrained(tmp_path)
            expected = logits_of(theirs)
        assert not (tmp_path / FILE).exists()
        for options in ({}, {"low_cpu_mem_usage": True}):
            decomposed.clear()
            ours = load(llama(tied), tmp_path, **options)
            assert len(decomposed) == 14  # there is no file beside it
            assert (logits_of(ours) - expected).abs().max() < 1e-4
            with ours.disable_adapter():
                assert torch.equal(logits_of(ours), logits_of(llama(tied)))


class TestFiles:
    def saved(self, folder: Path) -> Any:
        model = shake(attach(llama()))
        model.save_pretrained(folder)
        return model

    @pytest.mark.parametrize("options", [{}, {"low_cpu_mem_usage": True}, {"is_trainable": True}])
    def test_loading_decomposes_nothing(self, options: Any, tmp_path: Path, decomposed: Counted) -> None:
        model = self.saved(tmp_path)
        assert len(decomposed) == 14
        decomposed.clear()
        loaded = load(llama(), tmp_path, **options)
        assert torch.equal(logits_of(loaded), logits_of(model))
        assert equal(all_factors(loaded), all_factors(model))
        beside = attach(llama())
        decomposed.clear()
        beside.load_adapter(tmp_path, "second", **options)
        beside.set_adapter("second")
        assert torch.equal(logits_of(beside), logits_of(model))
        assert decomposed == []

    def test_weights_put_into_an_attached_adapter_keep_its_factors(self, tmp_path: Path, decomposed: Counted) -> None:
        """As a training does that goes on after it was killed."""
        model = self.saved(tmp_path)
        other = attach(llama())
        kept = all_factors(other)
        decomposed.clear()
        other.load_adapter(tmp_path, "default")
        assert torch.equal(logits_of(other), logits_of(model))
        assert decomposed == [] and all(one is mine for one, mine in zip(all_factors(other), kept, strict=True))

    def test_without_the_file_they_are_computed_to_the_same_bits(self, tmp_path: Path, decomposed: Counted) -> None:
        model = self.saved(tmp_path)
        (tmp_path / FILE).unlink()
        decomposed.clear()
        assert torch.equal(logits_of(load(llama(), tmp_path)), logits_of(model))
        assert len(decomposed) == 14

    def test_factors_of_another_base_are_not_taken(self, tmp_path: Path, decomposed: Counted) -> None:
        self.saved(tmp_path)
        decomposed.clear()
        with pytest.warns(UserWarning, match="another base") as warned:
            loaded = load(llama(seed=1), tmp_path)
        (message,) = [str(one.message) for one in warned if "base" in str(one.message)]
        assert message == (
            f"{tmp_path / FILE}: those of 14 of 14 layers, e.g. base_model.model.model.layers.0.self_attn.q_proj, "
            "are of another base: the adapter was trained on other weights than these, and does not belong to them"
        )
        assert len(decomposed) == 14
        assert equal(all_factors(loaded), all_factors(attach(llama(seed=1))))

    @pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
    def test_the_same_base_in_another_type_is_no_other(self, kind: Any, tmp_path: Path, decomposed: Counted) -> None:
        """Its factors are found again, without a word."""
        self.saved(tmp_path / "whole")
        shake(attach(llama().to(kind))).save_pretrained(tmp_path / "half")
        decomposed.clear()
        load(llama().to(kind), tmp_path / "whole")
        load(llama(), tmp_path / "half")
        assert len(decomposed) == 28

    def test_a_base_that_comes_later_is_looked_at_then(self, tmp_path: Path) -> None:
        given = factors.factors(attach(Layers(seed=1)).base_model.model.square, "default")
        with torch.device("meta"):
            empty = Layers()
        layer = attach(empty).base_model.model.square
        factors.complete(layer, "default", given)
        layer.base_layer.load_state_dict(Layers().square.state_dict(), assign=True)
        with pytest.warns(UserWarning, match="^KaSA's factors are of another base: the adapter was trained on other"):
            factors.factors(layer, "default")

    def test_one_changed_weight_is_noticed(self, tmp_path: Path, decomposed: Counted) -> None:
        self.saved(tmp_path)
        base = llama()
        base.model.layers[1].mlp.up_proj.weight.data[3, 5] += 1e-3
        decomposed.clear()
        load(base, tmp_path)
        assert decomposed == [(24, 16)]

    def test_factors_of_another_rank_are_not_taken(self, tmp_path: Path, decomposed: Counted) -> None:
        self.saved(tmp_path / "three")
        attach(llama(), rank=2).save_pretrained(tmp_path / "two")
        (tmp_path / "two" / FILE).write_bytes((tmp_path / "three" / FILE).read_bytes())
        decomposed.clear()
        load(llama(), tmp_path / "two")
        assert len(decomposed) == 14

    def test_a_truncated_base_is_truncated_no_further(self, tmp_path: Path) -> None:
        """A base that plain PEFT wrote to: the file's factors do not fit it, and there is nothing left to drop."""
        model = self.saved(tmp_path)
        with as_in_peft():
            theirs = attach(llama())
        base = theirs.unload()
        assert (logits_of(load(base, tmp_path)) - logits_of(model)).abs().max() < 1e-4

    def test_each_adapter_has_its_own_file(self, tmp_path: Path) -> None:
        model = attach(Layers())
        model.add_adapter("other", copy.deepcopy(model.peft_config["default"]))
        model.add_adapter("plain", LoraConfig(target_modules=["tall"]))
        model.save_pretrained(tmp_path)
        assert (tmp_path / FILE).is_file() and (tmp_path / "other" / FILE).is_file()
        assert not (tmp_path / "plain" / FILE).exists()
        model.save_pretrained(tmp_path / "chosen", selected_adapters=["other"])
        assert [p.parent.name for p in (tmp_path / "chosen").rglob(FILE)] == ["other"]
        model.save_pretrained(tmp_path / "elsewhere", is_main_process=False)
        assert not list((tmp_path / "elsewhere").rglob(FILE))

    def test_equal_bytes_each_time(self, tmp_path: Path) -> None:
        for place in ("one", "two"):
            self.saved(tmp_path / place)
        one, two = ((tmp_path / place / FILE).read_bytes() for place in ("one", "two"))
        assert one == two

    def test_plain_lora_has_no_such_file(self, tmp_path: Path) -> None:
        model = get_peft_model(Layers(), LoraConfig(target_modules=["tall"]))
        model.save_pretrained(tmp_path)
        assert not (tmp_path / FILE).exists()
        load(Layers(), tmp_path)

    def test_a_damaged_file_says_what_to_do(self, tmp_path: Path) -> None:
        self.saved(tmp_path)
        (tmp_path / FILE).write_bytes(b"none")
        with pytest.raises(ValueError, match=rf"{FILE}: damaged .*; delete it, and the factors are computed again"):
            load(llama(), tmp_path)

    def test_a_layer_that_is_missing_in_it_is_computed(self, tmp_path: Path, decomposed: Counted) -> None:
        model = self.saved(tmp_path)
        tensors = {name: t for name, t in load_file(tmp_path / FILE).items() if "layers.1.mlp.up_proj" not in name}
        save_file(tensors, tmp_path / FILE)
        decomposed.clear()
        assert torch.equal(logits_of(load(llama(), tmp_path)), logits_of(model))
        assert decomposed == [(24, 16)]

    def test_from_the_hubs_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decomposed: Counted) -> None:
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        repository = tmp_path / "models--someone--adapter"
        model = self.saved(repository / "snapshots" / "abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
        decomposed.clear()
        loaded = load(llama(), "someone/adapter", cache_dir=str(tmp_path))
        assert torch.equal(logits_of(loaded), logits_of(model))
        assert decomposed == []
        (repository / "snapshots" / "abc" / FILE).unlink()
        assert torch.equal(logits_of(load(llama(), "someone/adapter", cache_dir=str(tmp_path))), logits_of(model))
        assert len(decomposed) == 14


def test_a_model_of_conv1d_is_ours_only(tmp_path: Path) -> None:
    from safetensors import safe_open

    model = shake(attach(gpt2()))
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / FILE, "pt") as file:
        assert "PEFT loads it after `import knowtune` alone" in file.metadata()["about"]
    assert torch.equal(logits_of(load(gpt2(), tmp_path)), logits_of(model))
    with as_in_peft(), pytest.raises(ValueError, match="does not support `fan_in_fan_out=True` layers"):
        load(gpt2(), tmp_path)
