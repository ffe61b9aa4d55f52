"""What PEFT's users expect of an adapter: saving, loading, several of them."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from knowtune.common.errors import UserError
from knowtune.methods.sk_tuning.tuner.reading import tokens_of
from tests.unit.helpers import word_pieces

from .models import (
    IDS,
    SIZES,
    TEXT,
    WAYS,
    after_text,
    attach,
    bert,
    built,
    gpt2,
    layer_of,
    llama,
    logits_of,
    moved,
    with_text,
)

MODELS = {"llama": llama, "classifier": lambda: llama("SequenceClassification"), "bert": bert, "gpt2": gpt2}


@pytest.mark.parametrize(("variant", "form"), WAYS)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_saved_and_loaded_it_is_the_same(make, variant, form, tmp_path):
    attached = moved(attach(make(), variant=variant, form=form, text="in words"))
    attached.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "SK_TUNING" and config["token_ids"] == TEXT and config["text"] == "in words"
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert all(".sk_text." in name or name.split(".")[-2] in ("score", "classifier") for name in saved)
    assert sum(t.numel() for t in saved.values()) == sum(p.numel() for p in attached.parameters() if p.requires_grad)
    for low in (False, True):
        loaded = PeftModel.from_pretrained(make(), tmp_path, low_cpu_mem_usage=low)
        assert torch.equal(logits_of(loaded), logits_of(attached))
        assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize(("variant", "form"), WAYS)
def test_loaded_under_another_name(variant, form, tmp_path):
    attached = moved(attach(llama(), variant=variant, form=form))
    attached.save_pretrained(tmp_path)
    assert not any("default" in name for name in load_file(tmp_path / "adapter_model.safetensors"))
    loaded = PeftModel.from_pretrained(llama(), tmp_path, adapter_name="other")
    assert torch.equal(logits_of(loaded), logits_of(attached))


def test_loaded_to_go_on_training(tmp_path):
    attached = moved(attach(llama()))
    attached.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(llama(), tmp_path, is_trainable=True).eval()
    gradients = []
    for model in (attached, loaded):
        model(input_ids=IDS, labels=IDS).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    one, other = gradients
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_trained_values_keep_float32_on_a_base_in_bfloat16(tmp_path):
    for variant, form in WAYS:
        attached = moved(attach(llama().bfloat16(), variant=variant, form=form))
        assert {p.dtype for p in attached.parameters() if p.requires_grad} == {torch.float32}
        attached.save_pretrained(tmp_path / variant / form)
        loaded = PeftModel.from_pretrained(llama().bfloat16(), tmp_path / variant / form)
        assert torch.equal(logits_of(loaded), logits_of(attached))
        assert logits_of(loaded).dtype is torch.bfloat16


@pytest.mark.parametrize(("variant", "form"), WAYS)
def test_a_base_in_float16_reads_the_text_too(variant, form):
    attached = attach(llama().half(), variant=variant, form=form)
    assert {p.dtype for p in attached.parameters() if p.requires_grad} == {torch.float32}
    expected = after_text(llama().half())
    assert logits_of(attached).dtype is expected.dtype is torch.float16
    assert torch.allclose(logits_of(attached), expected, atol=1e-2)
    assert torch.allclose(logits_of(attached).float(), after_text(llama()), atol=3e-2)
    attached(input_ids=IDS, labels=IDS).loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in attached.parameters() if p.requires_grad)


def layer_calls(model):
    """Count how often the first layer runs, whatever for."""
    calls = []
    model.base_model.model.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_the_text_is_read_once():
    attached = attach(llama())
    calls = layer_calls(attached)
    for _ in range(3):
        attached(input_ids=IDS, labels=IDS).loss.backward()
    assert len(calls) == 3
    released = attach(llama(), form="released")
    calls = layer_calls(released)
    released(input_ids=IDS)
    assert len(calls) == 2


def test_the_text_is_read_again_when_the_base_is_another():
    attached = attach(llama())
    calls = layer_calls(attached)
    base = attached.get_base_model()
    with torch.no_grad():
        base.model.layers[0].self_attn.k_proj.weight.mul_(2)
    changed = llama()
    with torch.no_grad():
        changed.model.layers[0].self_attn.k_proj.weight.mul_(2)
    assert torch.equal(logits_of(attached), logits_of(attach(changed))) and len(calls) == 2
    base.double()
    assert logits_of(attached).dtype is torch.float64 and len(calls) == 4
    base.load_state_dict(llama().double().state_dict(), strict=False, assign=True)
    assert torch.allclose(logits_of(attached).float(), logits_of(attach(llama())), atol=1e-5) and len(calls) == 6
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits_of(attached)
    assert len(calls) == 8


def test_a_base_written_through_data_is_read_again_once_it_is_forgotten():
    """Such a write leaves neither address nor version behind."""
    attached, changed = attach(llama()), llama()
    for base in (attached.get_base_model(), changed):
        base.model.layers[0].self_attn.k_proj.weight.data.mul_(2)
    expected = logits_of(attach(changed))
    assert not torch.allclose(logits_of(attached), expected, atol=1e-2)
    attached.forget_states()
    assert torch.equal(logits_of(attached), expected)


def test_what_was_read_for_inference_may_be_trained_with():
    attached = attach(llama())
    layer_of(attached).kept.clear()
    with torch.inference_mode():
        attached(input_ids=IDS)
    attached(input_ids=IDS, labels=IDS).loss.backward()


def test_several_adapters_take_turns_and_leave():
    from knowtune import SkTuningConfig

    attached = moved(attach(llama()))
    first = logits_of(attached)
    other = SkTuningConfig(token_ids=[7, 7, 8], variant="prompt", form="released", task_type="CAUSAL_LM")
    attached.add_adapter("other", other)
    assert torch.equal(logits_of(attached), first)
    assert not [n for n, p in attached.named_parameters() if p.requires_grad and ".other." in n]
    attached.set_adapter("other")
    assert [n for n, p in attached.named_parameters() if p.requires_grad] == [
        "base_model.model.model.sk_tuning.sk_text.other.embeddings"
    ]
    alone = attach(llama(), token_ids=[7, 7, 8], variant="prompt", form="released")
    assert torch.equal(logits_of(attached), logits_of(alone))
    with pytest.raises(UserError, match="one adapter is active at a time; got default, other"):
        attached.base_model.set_adapter(["default", "other"])
    with pytest.warns(UserWarning, match="other was active which is now deleted"):
        attached.delete_adapter("other")
    assert attached.active_adapters == ["default"] and torch.equal(logits_of(attached), first)
    with attached.disable_adapter():
        assert torch.equal(logits_of(attached), logits_of(llama()))
    assert torch.equal(logits_of(attached), first)


def test_who_looks_for_weights_finds_none_in_the_layer():
    attached = attach(llama())
    names = [name for name, module in attached.named_modules() if hasattr(module, "weight") or hasattr(module, "bias")]
    assert names and not any(name.endswith("sk_tuning") for name in names)
    status = attached.get_model_status()
    assert (status.active_adapters, status.enabled, status.merged_adapters) == (["default"], True, [])


def test_a_copy_has_a_text_of_its_own():
    attached = moved(attach(llama()))
    copied = copy.deepcopy(attached)
    assert layer_of(copied).backbone[0] is copied.base_model.model.model
    expected = logits_of(attached)
    moved(attached)
    assert torch.equal(logits_of(copied), expected) and not torch.equal(logits_of(attached), expected)


def test_a_plain_backbone_takes_a_text_too():
    from transformers import LlamaModel

    plain = built("LlamaModel", **llama().config.to_dict())
    assert isinstance(plain, LlamaModel)
    attached = attach(plain, variant="prompt")
    with torch.no_grad():
        expected = built("LlamaModel", **llama().config.to_dict())(with_text(IDS)).last_hidden_state[:, len(TEXT) :]
        assert torch.allclose(attached(input_ids=IDS).last_hidden_state, expected, atol=1e-5)
        assert torch.allclose(attached(input_ids=IDS, return_dict=False)[0], expected, atol=1e-5)
        embeds = plain.get_input_embeddings()(IDS)
        assert torch.allclose(attached(inputs_embeds=embeds).last_hidden_state, expected, atol=1e-5)
    assert type(attached.unload()) is LlamaModel


def test_the_backbone_is_within_where_transformers_names_the_head():
    """Its `get_decoder` gives the projection onto the vocabulary."""
    name, sizes = "ModernBertDecoderForCausalLM", {**SIZES, "local_attention": 40}
    for variant in ("prefix", "prompt"):
        attached = attach(built(name, **sizes), variant=variant)
        assert hasattr(attached.get_base_model().model, "sk_tuning")
        assert torch.allclose(logits_of(attached), after_text(built(name, **sizes)), atol=1e-5)


def sentence_pieces():
    """Make a tokenizer as Llama 2 has it, which marks the beginning of a text by a blank."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("\u2581", -2.0), ("\u2581the", -1.0), ("a", -3.0)]
    unigram = Tokenizer(models.Unigram([*pieces, ("/", -3.0), ("s", -3.0)], unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=unigram, unk_token="<unk>", eos_token="</s>")


def test_a_blank_before_unknown_tokens_is_no_word():
    tokenizer = sentence_pieces()
    assert tokens_of(tokenizer, "the a") == [3, 2, 4]
    for text in ("\u2603\u2603", "\u2603 \u2603"):
        assert tokenizer.convert_tokens_to_ids("\u2581") in tokenizer(text)["input_ids"]
        with pytest.raises(UserError, match="becomes unknown tokens only; give words"):
            tokens_of(tokenizer, text)
    with pytest.raises(UserError, match="becomes no token"):
        tokens_of(tokenizer, "")


def test_what_reads_as_a_special_token_is_text():
    tokenizer = sentence_pieces()
    assert tokenizer("the</s>a")["input_ids"] == [3, 1, 2, 4]
    assert tokens_of(tokenizer, "the</s>a") == [3, 0, 5, 6, 0, 4]  # the vocabulary has it as a word, too
    pieces = word_pieces()
    words = pieces.convert_tokens_to_ids(["[CLS]", "a", "film", "[UNK]", "[UNK]", "[UNK]", "good", "[SEP]"])
    assert tokens_of(pieces, "a film [SEP] good") == words


def test_the_text_becomes_tokens_by_the_models_own_tokenizer(tmp_path):
    bert().save_pretrained(tmp_path)
    tokenizer = word_pieces()
    tokenizer.save_pretrained(tmp_path)
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(tmp_path)
    attached = attach(model, token_ids=None, text="the film was good")
    expected = tokenizer("the film was good")["input_ids"]
    assert attached.peft_config["default"].token_ids == expected and len(expected) == 6
    named = attach(bert(), token_ids=None, text="the film was good", tokenizer_name_or_path=str(tmp_path))
    assert named.peft_config["default"].token_ids == expected
    model = BertForSequenceClassification.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="'xyzzy plugh' becomes unknown tokens only; give words"):
        attach(model, token_ids=None, text="xyzzy plugh")
    with pytest.raises(UserError, match=r"no tokenizer for the text .*give tokenizer_name_or_path or token_ids"):
        attach(bert(), token_ids=None, text="the film")
