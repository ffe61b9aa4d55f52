"""By PEFT's own calls: attach, save, load, switch, refuse."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from knowtune import FishConfig, ImsmConfig
from knowtune.common.errors import UserError
from knowtune.methods.imsm.tuner.backbone import probe, require_same
from knowtune.methods.kasa.tuner.install import as_in_peft
from knowtune.methods.peft_warnings import quiet_peft
from tests.unit.methods.sk_tuning.tuner.models import bert, built

from .models import IDS, INNERS, LABELS, gpt2, inner_configs, layer_of, llama, logits_of, shake, weave


def saved(folder, inner="lora", **options):
    woven = shake(weave(llama(), inner, **options))
    with quiet_peft():
        woven.save_pretrained(folder)
    return woven


@pytest.mark.parametrize("inner", INNERS)
def test_what_is_saved_is_loaded(inner, tmp_path):
    woven = saved(tmp_path, inner, gate_rank=3)
    with quiet_peft():
        loaded = PeftModel.from_pretrained(llama(), tmp_path)
        trained = PeftModel.from_pretrained(llama(), tmp_path, is_trainable=True).eval()
    prompt = LABELS == -100
    for model in (loaded, trained):
        assert torch.equal(logits_of(model, prompt_mask=prompt), logits_of(woven, prompt_mask=prompt))
    assert not any(p.requires_grad for p in loaded.parameters())
    names = {name for name, p in woven.named_parameters() if p.requires_grad}
    assert {name for name, p in trained.named_parameters() if p.requires_grad} == names
    assert loaded.peft_config["default"].gate_rank == 3
    logits_of(loaded)
    with loaded.disable_adapter():
        assert torch.equal(logits_of(loaded), logits_of(llama()))


@pytest.mark.parametrize(("gate", "num"), [("query", 2), ("token", 2), ("fixed", 0)])
def test_the_file_holds_gate_and_inner_adapter_as_its_own_method_saves_it(gate, num, tmp_path):
    saved(tmp_path / "woven", gate=gate)
    with quiet_peft():
        peft.get_peft_model(llama(), inner_configs(llama())["lora"]).save_pretrained(tmp_path / "alone")
    woven, alone = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("woven", "alone"))
    gates = {name for name in woven if "imsm_gate" in name}
    assert woven.keys() - gates == alone.keys() and len(gates) == num
    config = json.loads((tmp_path / "woven" / "adapter_config.json").read_text())
    assert config["peft_type"] == "IMSM" and config["gate"] == gate and config["hidden_size"] == 16
    assert config["inner"]["peft_type"] == "LORA" and config["inner"]["r"] == 2


def test_a_saved_config_is_read_back():
    config = ImsmConfig(inner=inner_configs(llama())["lora"], gate_rank=4, gate="token")
    again = ImsmConfig(**json.loads(json.dumps(config.to_dict())))
    assert (again.gate_rank, again.gate, again.adapter.r, type(again.adapter)) == (4, "token", 2, peft.LoraConfig)


def _change(folder, change):
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(change(tensors), folder / "adapter_model.safetensors")


def _configure(folder, **options):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **options}))


def test_a_gate_that_is_missing_or_of_another_rank_or_width_is_refused(tmp_path):
    saved(tmp_path)
    wide = built("LlamaForCausalLM", **{**LLAMA, "hidden_size": 32})
    with pytest.raises(UserError, match="the gate is of states of width 16, and this model's head reads 32"):
        PeftModel.from_pretrained(wide, tmp_path)
    _configure(tmp_path, gate_rank=4)
    with quiet_peft(), pytest.raises(UserError, match=r"another gate.*got down.weight \(8, 64\).*allowed.*\(4, 64\)"):
        PeftModel.from_pretrained(llama(), tmp_path)
    _configure(tmp_path, gate_rank=8)
    _change(tmp_path, lambda tensors: {n: t for n, t in tensors.items() if "imsm" not in n})
    with quiet_peft(), pytest.raises(UserError, match="another gate than its config says: got none"):
        PeftModel.from_pretrained(llama(), tmp_path)


LLAMA = {
    "vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "num_key_value_heads": 2,
}  # fmt: skip
LORA = {"r": 2, "target_modules": ["q_proj"]}


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (lambda: peft.LoraConfig(**LORA, init_lora_weights="pissa"), "init_lora_weights: pissa: it rewrites the base"),
        (lambda: peft.LoraConfig(**LORA, init_lora_weights="olora"), "rewrites the base's weights"),
        (lambda: peft.LoraConfig(**LORA, bias="all"), "bias: all: it rewrites"),
        (lambda: peft.LoraConfig(**LORA, layer_replication=[(0, 2), (1, 2)]), "layer_replication makes another"),
        (lambda: peft.PrefixTuningConfig(num_virtual_tokens=2), "take SK_TUNING"),
        (lambda: peft.AdaptionPromptConfig(adapter_len=2, adapter_layers=1), "adaption_prompt cannot be woven"),
        (lambda: ImsmConfig(inner=peft.LoraConfig(**LORA)), "it is itself one"),
        (lambda: None, "inner: got None; allowed: the config of a method of PEFT"),
    ],
)
def test_inner_methods_that_cannot_be_woven_are_refused_with_the_reason(inner, words):
    with pytest.raises(UserError, match=words):
        ImsmConfig(inner=inner())


def test_pefts_own_kasa_which_truncates_the_base_is_refused():
    with as_in_peft(), pytest.raises(UserError, match="rewrites the base's weights"):
        weave(llama(), "kasa")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gate": "open"}, "gate: got 'open'; allowed: query, token, fixed"),
        ({"gate_rank": 0}, "gate_rank: got 0; allowed: 1 or more"),
        ({"gate_dropout": 1.0}, "gate_dropout: got 1.0; allowed: 0 to less than 1"),
        ({"task_type": "SEQ_CLS"}, "task_type: got SEQ_CLS; allowed: CAUSAL_LM"),
    ],
)
def test_options_out_of_bounds_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        ImsmConfig(inner=peft.LoraConfig(**LORA), **options)


def test_an_inner_method_that_keeps_weights_outside_the_layers_is_refused():
    with pytest.raises(UserError, match="vera keeps weights outside the model's layers"):
        weave(llama(), peft.VeraConfig(r=2, target_modules=["q_proj"]))


@pytest.mark.parametrize("write", [lambda w: w.data.mul_(2), lambda w: setattr(w, "data", w.data + 1)])
def test_an_adapter_that_writes_a_weight_of_the_base_is_refused(write):
    model = llama().requires_grad_(False)
    before = probe(model)
    require_same(model, before, "it writes")
    write(model.model.layers[1].self_attn.q_proj.weight)
    with pytest.raises(UserError, match=r"cannot be woven: it writes \(model.layers.1.self_attn.q_proj.weight\)"):
        require_same(model, before, "it writes")


def test_an_adapter_that_replaces_a_weight_of_the_base_is_refused():
    model = llama()
    before = probe(model)
    model.model.layers[0].self_attn.q_proj = torch.nn.Linear(16, 16)
    with pytest.raises(UserError, match=r"it writes \(parameter 1\)"):
        require_same(model, before, "it writes")


@pytest.mark.parametrize(
    "inner",
    [
        lambda: peft.LoraConfig(r=2, target_modules=["q_proj", "lm_head"]),
        lambda: peft.LoraConfig(**LORA, modules_to_save=["lm_head"]),
        lambda: FishConfig(mask={"lm_head.weight": torch.arange(3)}),
    ],
)
def test_an_adapter_at_the_head_is_refused(inner):
    with pytest.raises(UserError, match="the inner adapter changes lm_head, the output head"):
        weave(llama(), inner())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bert("MaskedLM"), "encoder, whose states depend on later tokens"),
        (lambda: llama("SequenceClassification"), "has no output head over tokens"),
        (lambda: built("T5ForConditionalGeneration", d_model=16, d_kv=4, num_layers=1, vocab_size=24), "encoder"),
        (lambda: torch.nn.Sequential(torch.nn.Linear(2, 2)), "got a Sequential; allowed: a causal language model"),
    ],
)
def test_models_that_are_no_causal_language_model_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        weave(make(), peft.LoraConfig(**LORA))


def test_it_cannot_be_merged():
    woven = weave(llama())
    for merge in (woven.merge_and_unload, woven.merge_adapter, layer_of(woven).merge):
        with pytest.raises(UserError, match="so no single weight computes it; keep base, inner adapter and gate"):
            merge()


def test_several_adapters_are_switched_and_deleted(tmp_path):
    first = saved(tmp_path / "first")
    with quiet_peft():
        woven = PeftModel.from_pretrained(llama(), tmp_path / "first", adapter_name="one")
        woven.add_adapter("two", ImsmConfig(inner=inner_configs(llama())["lora"], gate="token"))
        assert torch.equal(logits_of(woven), logits_of(first))
        woven.set_adapter("two")
        assert torch.equal(logits_of(woven), logits_of(llama()))
        assert {name for name, p in woven.named_parameters() if p.requires_grad and ".one" in name} == set()
        with pytest.raises(UserError, match="one adapter is active at a time"):
            woven.base_model.set_adapter(["one", "two"])
        with pytest.raises(UserError, match="the inner adapters of a model are of one type"):
            woven.add_adapter("three", ImsmConfig(inner=inner_configs(llama())["ia3"]))
        woven.set_adapter("one")
        woven.delete_adapter("two")
    assert torch.equal(logits_of(woven), logits_of(first))


def test_adaloras_own_call_is_reached():
    woven = weave(llama(), "adalora").train()
    woven(input_ids=IDS, labels=LABELS).loss.backward()
    woven.base_model.update_and_allocate(3)
    assert any((p == 0).any() for name, p in woven.named_parameters() if "lora_E" in name)


def test_a_pass_that_fails_leaves_the_model_as_it_was():
    woven = shake(weave(gpt2()))
    expected = logits_of(woven)
    with pytest.raises((IndexError, RuntimeError)):
        logits_of(woven, IDS + 100)
    assert torch.equal(logits_of(woven), expected)
