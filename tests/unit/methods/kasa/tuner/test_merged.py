"""What stays right while a KaSA adapter is merged: what shares the weight, what is added, what is taken off."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import KasaConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import Linear

from knowtune.methods.kasa.tuner.factors import complete, packing
from knowtune.methods.peft_warnings import quiet_peft
from tests.unit.helpers import equal_states
from tests.unit.methods.kasa.tuner.models import Layers, attach, llama, logits_of, plain_weights, shake, truncated

X = torch.linspace(-1, 1, 5 * 8).view(5, 8)


def outputs(layer: Any) -> torch.Tensor:
    with torch.no_grad():
        return layer(X)


@pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`")  # PEFT's, of any adapter of such a head
@pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied after merging")
@pytest.mark.parametrize("safe", [False, True])
def test_an_embedding_tied_to_a_merged_head_stays_what_it_is(safe: bool) -> None:
    pristine = llama(tied=True)
    model = shake(attach(copy.deepcopy(pristine), targets=["lm_head"]))
    trained, plain = logits_of(model), model.get_base_model()
    model.merge_adapter(safe_merge=safe)
    assert (logits_of(model) - trained).abs().max() < 1e-5
    assert torch.equal(plain.model.embed_tokens.weight, pristine.model.embed_tokens.weight)
    model.unmerge_adapter()
    assert plain.lm_head.base_layer.weight is plain.model.embed_tokens.weight
    assert torch.equal(logits_of(model), trained)
    merged = model.merge_and_unload(safe_merge=safe)
    assert (logits_of(merged) - trained).abs().max() < 1e-5
    assert not merged.config.tie_word_embeddings


def test_what_a_safe_merge_refuses_leaves_the_layer_as_it_was() -> None:
    model = attach(Layers(), targets=["tall"])
    weight = model.base_model.model.tall.base_layer.weight
    model.base_model.model.tall.lora_B["default"].weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaNs detected"):
        model.merge_adapter(safe_merge=True)
    assert model.base_model.model.tall.base_layer.weight is weight
    assert torch.equal(weight, Layers().tall.weight)


def test_a_merged_weight_follows_the_model_to_another_type() -> None:
    model = shake(attach(Layers()))
    model.merge_adapter()
    model.double()
    model.unmerge_adapter()
    assert equal_states(plain_weights(model), Layers().double().state_dict())


def test_unloaded_while_merged_it_leaves_the_base() -> None:
    model = shake(attach(Layers()))
    model.merge_adapter()
    assert equal_states(model.unload().state_dict(), Layers().state_dict())


def test_other_adapters_are_unloaded_as_peft_does_it() -> None:
    model = get_peft_model(Layers(), LoraConfig(r=2, target_modules=["tall"], init_lora_weights=False))
    model.merge_adapter()
    merged = model.base_model.model.tall.base_layer.weight.clone()
    assert torch.equal(model.unload().tall.weight, merged)


@pytest.mark.filterwarnings("ignore:Adapter cannot be set when the model is merged")  # PEFT's, which unmerges
@pytest.mark.parametrize("kasa", [True, False])
def test_one_that_is_added_while_another_is_merged_is_the_bases(kasa: bool, tmp_path: Path) -> None:
    if kasa:
        model = shake(attach(Layers()))
    else:
        model = get_peft_model(Layers(), LoraConfig(r=2, target_modules=["tall"], init_lora_weights=False))
    model.merge_adapter()
    with quiet_peft():
        model.add_adapter("late", LoraConfig(r=3, target_modules=["tall"], kasa_config=KasaConfig()))
    model.set_adapter("late")
    layer = model.base_model.model.tall
    assert torch.allclose(outputs(layer), outputs(truncated(Layers(), 3, ("tall",)).tall), atol=1e-5)
    model.save_pretrained(tmp_path)
    with quiet_peft():
        loaded = PeftModel.from_pretrained(Layers(), tmp_path / "late")
    assert torch.allclose(outputs(loaded.base_model.model.tall), outputs(layer), atol=1e-6)


def test_a_weight_that_others_are_merged_into_is_not_decomposed() -> None:
    model = shake(attach(Layers()))
    model.merge_adapter()
    with pytest.raises(RuntimeError, match="adapters are merged into it; unmerge them first"):
        complete(model.base_model.model.tall, "default")


def test_a_layer_that_would_make_it_plain_lora_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As PEFT's layers of quantised weights do: they never look at the config's KaSA."""
    monkeypatch.setattr(Linear, "resolve_lora_variant", lambda self, *, config, **_: None)
    with pytest.raises(ValueError, match=r"^KaSA decomposes a weight, and that of a Linear is packed; load the base"):
        attach(Layers())
    get_peft_model(Layers(), LoraConfig(r=2, target_modules=["tall"]))


class Packed(torch.Tensor):
    """A weight in int8, as torchao has it: a tensor that says it is float32, with products of its own."""

    @staticmethod
    def __new__(cls, plain: torch.Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, plain.shape, dtype=plain.dtype)

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(f"{function} of int8")


@pytest.mark.parametrize(
    ("pack", "how"),
    [(Packed, "in a Packed"), (lambda weight: weight.to(torch.float8_e4m3fn), "as float8_e4m3fn")],
)
def test_a_packed_weight_is_refused_by_what_it_is(pack: Any, how: str) -> None:
    model = Layers()
    model.square.weight = torch.nn.Parameter(pack(model.square.weight.detach()), requires_grad=False)
    with pytest.raises(ValueError, match=f"^KaSA decomposes a weight, and that of a Linear is packed {how}; load the"):
        attach(model, targets=["square"])


def test_a_weight_of_another_class_that_is_plain_is_not_packed() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    class Named(torch.nn.Parameter):
        """As those who mark their weights do."""

    with FakeTensorMode():
        fake = torch.empty(3, 4)
    assert not any(map(packing, (Named(torch.ones(3, 4)), torch.empty(3, 4, device="meta"), fake)))
    assert packing(torch.ones(3, 4, dtype=torch.int8)) == "packed as int8"


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_2", "olora", "OLoRA", "corda", "loftq", "lora_ga"])
def test_a_start_that_writes_the_base_is_refused_before_it_does(start: str) -> None:
    config = LoraConfig(r=3, target_modules=["tall"], kasa_config=KasaConfig())
    config.init_lora_weights = start  # some of them ask for more before
    pristine = Layers()
    message = (
        f"^init_lora_weights: '{start}': it writes the base's weights, which KaSA leaves as they are; allowed: true,"
    )
    with pytest.raises(ValueError, match=message):
        get_peft_model(pristine, config)
    assert torch.equal(pristine.tall.weight, Layers().tall.weight)
    for other in ("gaussian", False):
        attach(Layers(), init_lora_weights=other)
