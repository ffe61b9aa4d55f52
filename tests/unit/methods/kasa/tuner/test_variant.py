"""What a layer with a KaSA adapter computes, and what is left of it when the adapter goes."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from knowtune.methods.kasa.tuner.factors import complete, factors
from knowtune.methods.kasa.tuner.variant import leader, merged_weight
from tests.unit.helpers import equal_states
from tests.unit.methods.kasa.tuner.models import (
    Layers,
    attach,
    gpt2,
    llama,
    logits_of,
    loss_of,
    plain_weights,
    shake,
    truncated,
)

X = torch.linspace(-1, 1, 5 * 8).view(5, 8)
MODELS = {"tied llama": llama, "gpt2": gpt2}


def outputs(model: Any, x: torch.Tensor = X) -> torch.Tensor:
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize("kind", MODELS)
def test_the_base_comes_back_bit_for_bit(kind: str) -> None:
    pristine = MODELS[kind]()
    weights, logits = plain_weights(pristine), logits_of(pristine)
    model = shake(attach(copy.deepcopy(pristine)))
    trained = logits_of(model)
    assert (trained - logits).abs().max() > 1e-2
    assert equal_states(plain_weights(model), weights)  # W0 is never written
    with model.disable_adapter():
        assert torch.equal(logits_of(model), logits)
    for safe in (False, True):
        model.merge_adapter(safe_merge=safe)
        assert (logits_of(model) - trained).abs().max() < 1e-5
        assert not equal_states(plain_weights(model), weights)
        model.unmerge_adapter()
        assert equal_states(plain_weights(model), weights)
        assert torch.equal(logits_of(model), trained)
    model.merge_adapter()
    with model.disable_adapter():  # PEFT unmerges by itself
        assert torch.equal(logits_of(model), logits)
    plain = model.unload()
    assert equal_states(plain.state_dict(), pristine.state_dict())
    assert torch.equal(logits_of(plain), logits)


@pytest.mark.parametrize("kind", MODELS)
def test_a_fresh_adapter_computes_the_truncated_base(kind: str) -> None:
    pristine = MODELS[kind]()
    model = attach(copy.deepcopy(pristine))
    assert (logits_of(model) - logits_of(truncated(pristine, 3))).abs().max() < 1e-5
    assert (logits_of(model) - logits_of(pristine)).abs().max() > 1e-3


def test_the_change_is_the_equation() -> None:
    model = shake(attach(Layers()))
    for name in ("tall", "wide", "square"):
        layer = getattr(model.base_model.model, name)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        dropped_out, dropped_in = factors(layer, "default")
        weight = layer.base_layer.weight
        expected = weight - dropped_out @ dropped_in + 2.0 * b @ torch.diag(layer.lora_diag["default"]) @ a
        assert torch.allclose(merged_weight(layer, "default", weight), expected, atol=1e-6)
        x = torch.randn(3, weight.shape[1])
        plain = torch.nn.functional.linear(x, expected, layer.base_layer.bias)
        assert torch.allclose(layer(x), plain, atol=1e-5)


def test_inputs_of_one_two_and_three_dimensions_agree() -> None:
    model = shake(attach(Layers()))
    assert torch.allclose(outputs(model)[2], outputs(model, X[2]), atol=1e-6)
    assert torch.allclose(outputs(model), outputs(model, X.view(1, 5, 8))[0], atol=1e-6)


def test_scaling_ds_up_and_b_down_changes_nothing() -> None:
    model = shake(attach(Layers()))
    before = outputs(model)
    for layer in (model.base_model.model.tall, model.base_model.model.wide):
        layer.lora_diag["default"].data *= 4
        layer.lora_B["default"].weight.data /= 4
    assert torch.allclose(outputs(model), before, atol=1e-6)


def test_it_trains_what_lora_does_and_r_values_more() -> None:
    counts = [
        sum(p.numel() for p in model.parameters() if p.requires_grad)
        for model in (
            attach(Layers()),
            get_peft_model(Layers(), LoraConfig(r=3, target_modules=["tall", "square", "wide"])),
        )
    ]
    assert counts[0] == counts[1] + 3 * 3


@pytest.mark.parametrize("options", [{"lora_dropout": 0.5}, {"use_rslora": True}, {"lora_bias": True}])
def test_options_of_lora(options: dict[str, Any]) -> None:
    targets = ["tall", "wide"] if "lora_bias" in options else "all-linear"
    model = shake(attach(Layers(), targets=targets, **options))
    trained = outputs(model)
    assert torch.allclose(outputs(copy.deepcopy(model).merge_and_unload()), trained, atol=1e-5)
    if "lora_dropout" in options:
        model.train()
        dropped = model(X)
        assert not torch.allclose(dropped, trained, atol=1e-2)
        b = model.base_model.model.tall.lora_B["default"].weight
        b.data.zero_()
        tall = model.base_model.model.tall
        assert torch.allclose(tall(X), tall(X))  # what is dropped of the base sees no dropout


def test_the_first_step_moves_b_alone() -> None:
    """With B = 0 the task gives ds and A no gradient."""
    model = attach(llama())
    loss_of(model).backward()
    gradients = {name: p.grad.abs().max() for name, p in model.named_parameters() if p.requires_grad}
    assert all(grad > 0 for name, grad in gradients.items() if "lora_B" in name)
    assert all(grad == 0 for name, grad in gradients.items() if "lora_B" not in name)
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    model.zero_grad()
    loss_of(model).backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters() if p.requires_grad)


def test_gradients_are_those_of_the_equation() -> None:
    """Also to the layer's input, through what is dropped."""
    layer = shake(attach(Layers(), targets=["square"])).base_model.model.square
    leaves = [layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.lora_diag["default"]]
    x = torch.randn(4, 20, requires_grad=True)
    found = torch.autograd.grad(layer(x).square().sum(), [x, *leaves])
    dropped_out, dropped_in = factors(layer, "default")
    a, b, ds = leaves
    weight = layer.base_layer.weight.detach() - dropped_out @ dropped_in + 2.0 * (b * ds) @ a
    expected = torch.autograd.grad((x @ weight.T).square().sum(), [x, *leaves])
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-4) for one, other in zip(found, expected, strict=True))


def test_gradients_are_those_of_ds_between_a_and_b() -> None:
    """As PEFT writes it, to what float64 rounds; with and without somebody who hooks B, and so sees it called."""
    layer = shake(attach(Layers().double(), targets=["square"])).base_model.model.square
    leaves = [layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.lora_diag["default"]]
    x = torch.randn(4, 20, dtype=torch.float64, requires_grad=True)
    dropped_out, dropped_in = (factor.double() for factor in factors(layer, "default"))
    change = layer.lora_B["default"](layer.lora_A["default"](x) * leaves[2]) * 2.0
    plain = layer.base_layer(x) - (x @ dropped_in.T) @ dropped_out.T + change
    expected = torch.autograd.grad(plain.square().sum(), [x, *leaves])
    seen: list[Any] = []
    for hooked in (False, True):
        if hooked:
            layer.lora_B["default"].register_forward_hook(lambda module, args, output: seen.append(args[0]))
        gradients = torch.autograd.grad(layer(x).square().sum(), [x, *leaves])
        assert all(torch.allclose(one, other, rtol=1e-12) for one, other in zip(gradients, expected, strict=True))
        assert bool(seen) == hooked


def test_it_keeps_as_much_of_the_tokens_for_the_backward_pass_as_lora() -> None:
    def kept(model: Any) -> int:
        tensors: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if 64 in tensor.shape:
                tensors[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(torch.randn(64, 8)).square().sum()  # alive, so that no memory is used twice
        assert loss.requires_grad
        return sum(tensors.values())

    lora = get_peft_model(Layers(), LoraConfig(r=3, target_modules=["tall", "square", "wide"]))
    assert kept(attach(Layers()).train()) == kept(lora)


@pytest.mark.parametrize("ranks", [None, (2, 4), (4, 2)])
def test_it_compiles_to_one_graph(ranks: tuple[int, int] | None) -> None:
    model = TestSeveralAdapters().two(ranks) if ranks else shake(attach(Layers()))
    if ranks:
        model.base_model.set_adapter(["default", "other"])
    torch._dynamo.reset()
    compiled = torch.compile(model.base_model.model, backend="eager", fullgraph=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(compiled(X).square().sum(), trained)
    expected = torch.autograd.grad(model(X).square().sum(), trained)
    assert all(torch.equal(one, other) for one, other in zip(gradients, expected, strict=True))


class TestSeveralAdapters:
    def two(self, ranks: tuple[int, int] = (3, 3), **options: Any) -> Any:
        from peft import KasaConfig

        model = attach(Layers(), rank=ranks[0])
        kasa = options.pop("kasa", True)
        config = LoraConfig(
            r=ranks[1],
            lora_alpha=ranks[1],
            target_modules=["tall", "square", "wide"],
            kasa_config=KasaConfig() if kasa else None,
            init_lora_weights=False,
        )
        model.add_adapter("other", config)
        return shake(model).eval()

    def test_plain_lora_stands_beside_it_in_either_order(self) -> None:
        model = self.two(kasa=False)
        alone = get_peft_model(Layers(), copy.deepcopy(model.peft_config["other"])).eval()
        for name in ("tall", "square", "wide"):
            for factor in ("lora_A", "lora_B"):
                mine = getattr(getattr(model.base_model.model, name), factor)["other"].weight
                getattr(getattr(alone.base_model.model, name), factor)["default"].weight.data.copy_(mine)
        model.set_adapter("other")
        assert torch.equal(outputs(model), outputs(alone))
        alone.add_adapter("kasa", copy.deepcopy(model.peft_config["default"]))  # LoRA first
        assert torch.equal(outputs(alone), outputs(model))

    def test_together_they_drop_once_what_the_larger_drops(self) -> None:
        for ranks in ((2, 4), (4, 2), (3, 3)):
            model = self.two(ranks)
            model.base_model.set_adapter(["default", "other"])
            base = truncated(Layers(), max(ranks))
            for name in ("tall", "square", "wide"):
                layer = getattr(model.base_model.model, name)
                for adapter in ("default", "other"):
                    a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
                    change = layer.scaling[adapter] * (b * layer.lora_diag[adapter]) @ a
                    getattr(base, name).weight.data += change.detach()
            expected = outputs(base)
            assert torch.allclose(outputs(model), expected, atol=1e-5)
            weights = plain_weights(model)
            model.merge_adapter()
            assert torch.allclose(outputs(model), expected, atol=1e-5)
            model.unmerge_adapter()
            assert equal_states(plain_weights(model), weights)
            assert leader(layer, ["default", "other"]) == ("other" if ranks == (2, 4) else "default")

    def test_merged_one_after_the_other(self) -> None:
        model = self.two((2, 4))
        weights = plain_weights(model)
        model.base_model.set_adapter(["default", "other"])
        together = outputs(model)
        model.merge_adapter(["default"])
        with pytest.warns(UserWarning, match="additionally merging other"):
            model.merge_adapter(["other"])
        assert torch.allclose(outputs(model), together, atol=1e-5)
        model.unmerge_adapter()
        assert equal_states(plain_weights(model), weights)

    def test_each_sample_may_have_its_own(self) -> None:
        model = self.two()
        model.base_model.set_adapter(["default", "other"])
        with torch.no_grad():
            mixed = model(X, adapter_names=["default", "other", "__base__", "other", "default"])
        assert torch.allclose(mixed[2], outputs(Layers())[2], atol=1e-6)
        for name, rows in (("default", [0, 4]), ("other", [1, 3])):
            model.set_adapter(name)
            assert torch.allclose(mixed[rows], outputs(model)[rows], atol=1e-6)

    def test_a_batch_within_a_batch_of_samples_with_their_own(self) -> None:
        """What stands alone there does not outside, though it is called in the middle."""
        model = self.two((2, 4))
        model.base_model.set_adapter(["default", "other"])
        layer = model.base_model.model.tall
        expected, within = outputs(layer), []
        for name in ("default", "other"):
            hooks: list[Any] = []

            def call(*_: Any, hooks: list[Any] = hooks) -> None:
                hooks.pop().remove()
                within.append(outputs(layer))

            hooks.append(layer.lora_A[name].register_forward_hook(call))
            assert not torch.allclose(layer(X, adapter_names=[name] * 5), expected, atol=1e-3)
        assert len(within) == 2 and all(torch.equal(one, expected) for one in within)

    def test_a_deleted_one_leaves_nothing(self) -> None:
        model = self.two()
        model.set_adapter("other")
        expected = outputs(model)
        model.delete_adapter("default")
        assert not any("default" in name for name, _ in [*model.named_buffers(), *model.named_parameters()])
        assert torch.equal(outputs(model), expected)


class TestTypes:
    @pytest.mark.parametrize("autocast", [True, False])
    def test_a_bfloat16_base_is_decomposed_exactly(self, autocast: bool) -> None:
        from peft import KasaConfig

        config = LoraConfig(r=2, target_modules=["tall", "square", "wide"], kasa_config=KasaConfig())
        pristine = Layers().bfloat16()
        weights = plain_weights(pristine)
        model = get_peft_model(copy.deepcopy(pristine), config, autocast_adapter_dtype=autocast).eval()
        layer = model.base_model.model.square
        dropped_out, dropped_in = factors(layer, "default")
        assert dropped_out.dtype == dropped_in.dtype == torch.float32
        world = layer.base_layer.weight.double() - dropped_out.double() @ dropped_in.double()
        expected = truncated(pristine.double(), 2).square.weight
        assert (world - expected).norm() <= 1e-6 * expected.norm()
        out = outputs(model, X.bfloat16())
        assert out.dtype == torch.bfloat16
        assert torch.allclose(out.double(), outputs(truncated(pristine, 2), X.double()), atol=2e-2)
        model.merge_adapter()
        assert model.base_model.model.square.base_layer.weight.dtype == torch.bfloat16
        model.unmerge_adapter()
        assert equal_states(plain_weights(model), weights)

    @pytest.mark.parametrize("half", [True, False])
    def test_under_autocast_it_is_what_lora_is(self, half: bool) -> None:
        """A base in half precision, whose adapter is in float32, and one in float32."""
        lora = LoraConfig(r=3, target_modules=["tall", "square", "wide"])
        kasa, plain = shake(attach(Layers())), get_peft_model(Layers(), lora)
        expected = outputs(kasa)
        for model in (kasa, plain) if half else ():
            for name in ("tall", "square", "wide"):
                getattr(model.base_model.model, name).base_layer.bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            mixed = kasa(X)
            assert mixed.dtype == outputs(plain).dtype == torch.bfloat16
        assert (mixed - expected).abs().max() < 0.05 * expected.abs().max()
        mixed.float().square().sum().backward()
        assert all(p.grad.dtype == torch.float32 for p in kasa.parameters() if p.requires_grad)

    def test_a_merged_weight_is_rounded_once(self) -> None:
        layer = shake(attach(Layers().bfloat16())).base_model.model.square
        exact = merged_weight(layer, "default", layer.base_layer.weight.float())
        assert torch.equal(merged_weight(layer, "default", layer.base_layer.weight), exact.bfloat16())

    def test_it_follows_the_model_to_other_types_and_copies(self) -> None:
        model = shake(attach(Layers()))
        expected = outputs(model)
        assert torch.equal(outputs(copy.deepcopy(model)), expected)
        assert torch.allclose(outputs(model.double(), X.double()).float(), expected, atol=1e-5)


def test_tied_weights_stay_tied_and_are_dropped_where_they_are_adapted() -> None:
    pristine = llama(tied=True)
    model = shake(attach(copy.deepcopy(pristine), targets=["lm_head"]))
    plain = model.get_base_model()
    assert plain.lm_head.base_layer.weight is plain.model.embed_tokens.weight
    assert torch.equal(plain.model.embed_tokens.weight, pristine.model.embed_tokens.weight)
    layer = plain.lm_head
    states = torch.randn(2, 3, 16)
    merged = merged_weight(layer, "default", layer.base_layer.weight)
    assert torch.allclose(layer(states), states @ merged.T, atol=1e-5)


class TestMeta:
    def test_a_base_without_weights_waits_for_them(self) -> None:
        pristine = Layers()
        with torch.device("meta"):
            empty = Layers()
        model = attach(empty)
        assert not model.base_model.model.square.kasa_P
        with pytest.raises(RuntimeError, match="cannot decompose a base weight that is on the meta device; load the"):
            factors(model.base_model.model.square, "default")
        for name in ("tall", "square", "wide"):
            layer = getattr(model.base_model.model, name)
            layer.base_layer.load_state_dict(getattr(pristine, name).state_dict(), assign=True)
            for factor in (layer.lora_A["default"], layer.lora_B["default"]):
                factor.weight = torch.nn.Parameter(torch.zeros(factor.weight.shape))
            layer.lora_diag["default"] = torch.nn.Parameter(torch.ones(3))
        assert torch.allclose(outputs(model), outputs(truncated(pristine, 3)), atol=1e-5)

    def test_given_factors_wait_too(self) -> None:
        given = factors(attach(Layers()).base_model.model.square, "default")
        with torch.device("meta"):
            empty = Layers()
        layer = attach(empty).base_model.model.square
        complete(layer, "default", given)
        assert not layer.kasa_P
        layer.base_layer.load_state_dict(Layers().square.state_dict(), assign=True)
        assert all(torch.equal(one, other) for one, other in zip(factors(layer, "default"), given, strict=True))

    def test_offloaded_layers_are_decomposed_where_their_weights_come(self) -> None:
        from accelerate import cpu_offload

        model = Layers()
        expected = outputs(truncated(model, 3))
        cpu_offload(model, execution_device=torch.device("cpu"))
        assert model.square.weight.device.type == "meta"
        attached = attach(model)
        assert len(attached.base_model.model.square.kasa_P) == 1
        assert torch.allclose(factors(attached.base_model.model.square, "default")[0],
                              factors(attach(Layers()).base_model.model.square, "default")[0])  # fmt: skip
        for layer in (attached.base_model.model.tall, attached.base_model.model.square, attached.base_model.model.wide):
            for factor in (layer.lora_A["default"], layer.lora_B["default"]):
                factor.weight = torch.nn.Parameter(torch.zeros(factor.weight.shape))
            layer.lora_diag["default"] = torch.nn.Parameter(torch.ones(3))
        assert torch.allclose(outputs(attached), expected, atol=1e-5)


@pytest.mark.parametrize("rank", [6, 7])
def test_a_rank_that_leaves_nothing_is_refused(rank: int) -> None:
    message = (
        "KaSA requires `r` to be less than min(in_features, out_features), as it drops r singular values: got "
        f"{rank} for wide (6 x 20); allowed: at most 5"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        attach(Layers(), rank=rank)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"init_lora_weights": "mica"}])
def test_other_variants_do_not_go_with_it(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unsupported variant combination"):
        attach(Layers(), **options)
