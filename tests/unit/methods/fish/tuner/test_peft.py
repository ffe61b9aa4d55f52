"""What PEFT's users expect of any adapter."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.methods.fish.tuner.models import (
    Body,
    Picture,
    attach,
    bert,
    gpt2,
    llama,
    logits_of,
    loss_of,
    plain_state,
    some_entries,
    spread,
)

MODELS = {"tied": llama, "untied": lambda: llama(tied=False), "bert": bert, "gpt2": gpt2, "picture": Picture}
LIMIT = "model.layers.0.mlp.up_proj.weight"


def task_of(model):
    name = type(model).__name__
    return {"task_type": "SEQ_CLS"} if "Classification" in name else {"task_type": "CAUSAL_LM"} if "LM" in name else {}


def trained(model, **options):
    attached = attach(model, **{"init_weights": False, **task_of(model), **options})
    optimizer = torch.optim.AdamW([p for p in attached.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        loss_of(attached).backward()
        optimizer.step()
        optimizer.zero_grad()
    return attached


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("low", [False, True], ids=["", "low_cpu_mem_usage"])
def test_saved_and_loaded_it_is_the_same(make, low, tmp_path):
    from peft import PeftModel

    attached = trained(make(), mask=some_entries(make()))
    attached.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make(), tmp_path, low_cpu_mem_usage=low).eval()
    assert torch.equal(logits_of(loaded), logits_of(attached.eval()))
    saved, again = attached.state_dict(), loaded.state_dict()
    for name in (name for name in saved if "fish_" in name):
        assert torch.equal(saved[name], again[name]) and saved[name].dtype == again[name].dtype, name
    assert not any(p.requires_grad for p in loaded.parameters())
    merged = loaded.merge_and_unload()
    assert torch.equal(logits_of(merged), logits_of(attached))


def test_a_saved_adapter_holds_values_indices_and_counts_and_no_mask(tmp_path):
    model = llama()
    mask = some_entries(model)
    trained(model, mask=mask, target_modules=["embed_tokens"]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["counts"] == {name: len(indices) for name, indices in mask.items()}
    assert config["peft_type"] == "FISH" and "mask" not in config
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert all(name.rpartition(".")[2] in ("fish_values", "fish_indices") for name in tensors)  # no whole embedding
    num = sum(map(len, mask.values()))
    assert sum(t.numel() for n, t in tensors.items() if "values" in n) == num
    assert all(t.dtype == torch.int32 for n, t in tensors.items() if "indices" in n)


def test_loaded_to_go_on_training(tmp_path):
    from peft import PeftModel

    attached = trained(llama(), strategy="random", budget=0.05)
    attached.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(llama(), tmp_path, is_trainable=True)
    for model in (attached, loaded):
        model.zero_grad()
        loss_of(model).backward()
    one, other = spread(attached, "gradients"), spread(loaded, "gradients")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_values_keep_float32_on_a_base_in_bfloat16(tmp_path):
    from peft import PeftModel

    attached = trained(llama().bfloat16(), mask={LIMIT: torch.arange(40)})
    attached.save_pretrained(tmp_path)
    for low in (False, True):
        loaded = PeftModel.from_pretrained(llama().bfloat16(), tmp_path, low_cpu_mem_usage=low)
        assert torch.equal(spread(loaded)[LIMIT], spread(attached)[LIMIT])
        assert torch.equal(logits_of(loaded), logits_of(attached))


def test_a_classifiers_head_is_trained_and_saved(tmp_path):
    from peft import PeftModel

    model = bert()
    before = model.classifier.weight.detach().clone()
    num_head = model.classifier.weight.numel() + model.classifier.bias.numel()
    attached = trained(model, strategy="random", num_parameters=100)
    assert sum(p.numel() for p in attached.parameters() if p.requires_grad) == 100 + num_head
    assert not any("classifier" in name for name in attached.peft_config["default"].counts)
    attached.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(bert(), tmp_path).eval()
    assert torch.equal(logits_of(loaded), logits_of(attached.eval()))
    merged = loaded.merge_and_unload()
    assert not torch.equal(merged.classifier.weight, before)


def two_adapters(first, second):
    from knowtune import FishConfig

    attached = attach(llama(), first, init_weights=False)
    attached.add_adapter("other", FishConfig(mask=second, init_weights=False, seed=1))
    return attached


def test_two_adapters_take_turns_add_up_and_leave():
    one, two = some_entries(llama(), 0.3), some_entries(llama(), 0.3, seed=5)
    for name in list(one)[1::2]:
        del one[name]  # so that each has parameters that the other has not
    del two["model.layers.0.mlp.up_proj.weight"]
    attached = two_adapters(one, two)
    assert [n for n, p in attached.named_parameters() if p.requires_grad and "other" in n] == []
    first = logits_of(attached)
    attached.set_adapter("other")
    second = logits_of(attached)
    assert all(("other" in n) == p.requires_grad for n, p in attached.named_parameters() if "fish_" in n)
    assert not torch.allclose(first, second)
    attached.base_model.set_adapter(["default", "other"])
    both = logits_of(attached)
    base = plain_state(attached)
    expected = {name: tensor.clone() for name, tensor in base.items()}
    for adapter, mask in (("default", one), ("other", two)):
        for name, values in spread(attached, adapter=adapter).items():
            expected[name].view(-1).index_add_(0, mask[name], values)
    plain = llama()
    plain.load_state_dict({**expected, "lm_head.weight": expected["model.embed_tokens.weight"]})
    assert torch.allclose(logits_of(plain), both, atol=1e-6)  # the values are added first, and rounded once
    attached.merge_adapter()
    assert torch.equal(logits_of(attached), both)
    attached.unmerge_adapter()
    after = plain_state(attached)
    assert all(torch.equal(base[name], after[name]) for name in base)
    attached.delete_adapter("default")
    assert attached.active_adapters == ["other"] and torch.equal(logits_of(attached), second)


def test_gradients_of_two_active_adapters_are_the_dense_ones():
    from .models import dense_gradients

    mask = {LIMIT: torch.tensor([1, 2, 3]), "model.norm.weight": torch.tensor([4])}
    other = {LIMIT: torch.tensor([2, 3, 9])}
    attached = two_adapters(mask, other)
    attached.base_model.set_adapter(["default", "other"])
    plain = two_adapters(mask, other)
    plain.base_model.set_adapter(["default", "other"])
    plain = plain.merge_and_unload()
    loss_of(attached).backward()
    for adapter, given in (("default", mask), ("other", other)):
        dense = dense_gradients(plain, given)
        for name, gradient in spread(attached, "gradients", adapter).items():
            assert torch.allclose(gradient, dense[name], rtol=1e-4, atol=1e-7)


def test_merged_one_after_the_other_and_both_undone():
    attached = two_adapters({LIMIT: torch.arange(30)}, {LIMIT: torch.arange(20, 60)})
    before = plain_state(attached)
    attached.merge_adapter(["default"])
    with pytest.warns(UserWarning, match="additionally merging other"):
        attached.merge_adapter(["other"])
    assert not torch.equal(plain_state(attached)[LIMIT], before[LIMIT])
    attached.unmerge_adapter()
    assert torch.equal(plain_state(attached)[LIMIT], before[LIMIT])


def test_an_adapter_inside_anothers_module_is_saved_by_the_plain_paths(tmp_path):
    from knowtune import FishConfig

    inner = {"body.norm.weight": torch.tensor([0, 2])}
    attached = attach(Picture(), {"body.start": torch.tensor([1])}, init_weights=False)
    attached.add_adapter("inner", FishConfig(mask=inner, init_weights=False))
    attached.set_adapter("inner")
    expected = logits_of(attached)
    attached.save_pretrained(tmp_path, selected_adapters=["inner"])
    alone = attach(Picture(), inner)
    alone.load_adapter(tmp_path / "inner", "again")
    alone.set_adapter("again")
    assert torch.allclose(logits_of(alone), expected, atol=1e-6)
    plain = attached.unload()
    assert type(plain.body) is Body and type(plain.body.norm) is torch.nn.LayerNorm


def test_a_shared_module_is_wrapped_and_unwrapped_at_all_its_places():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 4), "b": torch.nn.Linear(4, 4)})
    model["c"] = model["a"]
    attached = attach(model, {"a.weight": torch.tensor([3])}, init_weights=False)
    wrapped = attached.base_model.model
    assert wrapped["a"] is wrapped["c"] and hasattr(wrapped["c"], "fish_values")
    plain = attached.unload()
    assert plain["a"] is plain["c"] and type(plain["c"]) is torch.nn.Linear


def test_adapters_loaded_for_inference_stay_frozen_after_being_disabled(tmp_path):
    from peft import PeftModel

    trained(llama(), strategy="random", budget=0.05).save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    with loaded.disable_adapter():
        pass
    assert not any(p.requires_grad for p in loaded.parameters())
    training = attach(llama(), strategy="random", budget=0.05)
    with training.disable_adapter():
        assert not any(p.requires_grad for p in training.parameters())
    assert any(p.requires_grad for p in training.parameters())


def test_a_config_with_counts_but_no_weights_computes_nothing():
    from knowtune.common.errors import UserError

    attached = attach(llama(), counts={LIMIT: 3})
    with pytest.raises(UserError, match="no indices"):
        logits_of(attached)


def test_counts_of_another_model_are_refused():
    from knowtune.common.errors import UserError

    with pytest.raises(UserError, match=r"counts.*did you mean"):
        attach(llama(), counts={LIMIT + "s": 3})


def test_modules_are_found_through_the_layer():
    attached = attach(llama(), some_entries(llama()))
    assert attached.get_input_embeddings().padding_idx == 0
    assert attached.get_input_embeddings().weight.shape == (24, 16)
    assert not hasattr(attached.get_input_embeddings(), "nothing")


def test_generates_as_merged():
    attached = trained(llama(), mask=some_entries(llama()))
    attached.eval()
    prompt = torch.tensor([[3, 4, 5]])
    options = {"max_new_tokens": 5, "do_sample": False, "attention_mask": torch.ones_like(prompt), "pad_token_id": 0}
    tokens = attached.generate(input_ids=prompt, **options)
    assert torch.equal(tokens, attached.merge_and_unload().generate(input_ids=prompt, **options))
