"""What PEFT's users expect of an adapter: saving, loading, generation, several of them, and clear refusals."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from knowtune.common.errors import UserError
from tests.unit.helpers import word_pieces

from .models import (
    CAUSAL,
    IDS,
    SIZES,
    TEXT,
    WAYS,
    after_text,
    attach,
    bert,
    built,
    deepseek,
    gpt2,
    layer_of,
    left_padded,
    llama,
    logits_of,
    mistral,
    moved,
    roberta,
    token_classifier,
    with_text,
)

GREEDY = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
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


OTHERS = {
    "architecture": (gpt2, "model_type 'llama', here 'gpt2'; backbone 'model', here 'transformer'"),
    "no keys": (lambda: token_classifier("MPNet"), "model_type 'llama', here 'mpnet'; backbone"),
    "kind": (mistral, "model_type 'llama', here 'mistral'; load it onto the base it is of"),
    "place": (lambda: built("LlamaModel", **llama().config.to_dict()), "backbone 'model', here '';"),
    "width": (lambda: llama(head_dim=4, hidden_size=24), "hidden_size 16, here 24; load it onto"),
    "heads": (
        lambda: llama(num_key_value_heads=4),
        r"states \[\[2, 2, 4, 2, 4\]\], here \[\[2, 4, 4, 4, 4\]\]; load it onto",
    ),
    "layers": (
        lambda: llama(num_hidden_layers=3),
        r"states \[\[2, 2, 4, 2, 4\]\], here \[\[3, 2, 4, 2, 4\]\]; load it onto",
    ),
}


@pytest.mark.parametrize(("make", "fault"), OTHERS.values(), ids=OTHERS)
def test_a_saved_adapter_is_refused_by_another_base(make, fault, tmp_path):
    attach(llama()).save_pretrained(tmp_path / "prefix")
    attach(llama(), variant="prompt").save_pretrained(tmp_path / "prompt")
    for variant in ["prefix"] if "states" in fault else ["prefix", "prompt"]:
        model = make()
        with pytest.raises(UserError, match=f"the adapter is of another base: {fault}"):
            PeftModel.from_pretrained(model, tmp_path / variant)
        assert not any("sk_tuning" in name for name, _ in model.named_modules())
        PeftModel.from_pretrained(llama(), tmp_path / variant)


def test_an_adapter_saved_without_its_base_is_loaded_as_before(tmp_path):
    attached = moved(attach(llama()))
    attached.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    named = {"model_type": "llama", "backbone": "model", "hidden_size": 16, "states": [[2, 2, 4, 2, 4]]}
    assert config.pop("base_shape") == named
    path.write_text(json.dumps(config))
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    assert torch.equal(logits_of(loaded), logits_of(attached)) and loaded.peft_config["default"].base_shape == named


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
@pytest.mark.parametrize("make", CAUSAL.values(), ids=CAUSAL)
def test_generates_as_the_model_that_has_read_the_text(make, variant, form):
    plain, attached = make(), attach(make(), variant=variant, form=form)
    for options in (GREEDY, {**GREEDY, "num_beams": 3}, {**GREEDY, "use_cache": False}):
        expected = plain.generate(input_ids=with_text(IDS), **options)[:, len(TEXT) :]
        assert torch.equal(attached.generate(input_ids=IDS, **options), expected)
    drawn = []
    for model, ids in ((plain, with_text(IDS)), (attached, IDS)):
        torch.manual_seed(0)
        drawn.append(model.generate(input_ids=ids, **{**GREEDY, "do_sample": True})[:, -6:])
    assert torch.equal(*drawn)


@pytest.mark.parametrize(("variant", "form"), WAYS)
def test_trained_it_generates_with_and_without_cache_and_padding(variant, form):
    attached = moved(attach(llama(), variant=variant, form=form))
    expected = torch.cat([attached.generate(input_ids=row[None], **GREEDY) for row in IDS])
    assert not torch.equal(expected, llama().generate(input_ids=IDS, **GREEDY))
    assert torch.equal(attached.generate(input_ids=IDS, use_cache=False, **GREEDY), expected)
    assert torch.equal(attached.generate(**left_padded(IDS, 3), **GREEDY)[:, 3:], expected)
    step = attached(input_ids=IDS, use_cache=True)
    following = attached(input_ids=expected[:, 6:7], past_key_values=step.past_key_values).logits
    assert torch.equal(following.argmax(-1), expected[:, 7:8])
    assert attached(input_ids=IDS, use_cache=False).past_key_values is None


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


def test_a_model_whose_parts_all_take_labels_is_refused():
    class Whole(type(llama())):
        def forward(self, input_ids=None, labels=None):
            raise NotImplementedError

    model = Whole(llama().config)
    model.model = Whole(llama().config)
    model.model.model = torch.nn.Embedding(24, 16)
    model.get_decoder = lambda: model
    with pytest.raises(UserError, match="no part of Whole gives hidden states; take another base"):
        attach(model, task_type=None)


@pytest.mark.filterwarnings("ignore:.use_cache=True. is incompatible")
def test_gradient_checkpointing_is_refused_for_a_prefix_and_works_for_a_prompt():
    model = llama()
    model.activation_checkpointing_enable({"use_reentrant": False})
    with pytest.raises(UserError, match="gradient checkpointing computes layers again without the cache"):
        attach(model)
    later = attach(llama())
    later.activation_checkpointing_enable({"use_reentrant": False})
    logits_of(later)  # in evaluation nothing is computed again
    with pytest.raises(UserError, match="gradient checkpointing"):
        later.train()(input_ids=IDS)
    gradients = []
    for prompt in (attach(llama(), variant="prompt"), attach(model, variant="prompt")):
        prompt.train()(input_ids=IDS, labels=IDS).loss.backward()
        gradients.append(layer_of(prompt).sk_text["default"].embedding.up.weight.grad)
    assert float(gradients[0].abs().sum()) > 0 and torch.allclose(*gradients, atol=1e-6)


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


def test_a_text_that_does_not_fit_is_refused_and_nothing_is_attached():
    model = gpt2()
    with pytest.raises(UserError, match="the text has 32 tokens, which leaves no room for an input in a context of 32"):
        attach(model, token_ids=[3] * 32)
    with pytest.raises(UserError, match="the text has the token 99, and the model has 24; was it made on another base"):
        attach(model, token_ids=[99])
    with pytest.raises(UserError, match="the text has 9 tokens, and layers of this model see 6 at most"):
        attach(mistral(), token_ids=[3] * 9)
    assert not hasattr(model.transformer, "sk_tuning")
    attached = attach(model, token_ids=[3] * 28)
    with pytest.raises(UserError, match="an input of 6 tokens after a text of 28, and the context holds 32"):
        attached(input_ids=IDS)
    assert attached(input_ids=IDS[:, :4]).logits.shape == (2, 4, 24)


@pytest.mark.parametrize("family", ["Roberta", "XLMRoberta", "Camembert", "MPNet"])
def test_rows_of_positions_for_padding_are_no_room(family):
    assert logits_of(roberta(family=family), torch.full((1, 32), 5)).shape == (1, 2)
    for variant in ["prompt"] if family == "MPNet" else ["prefix", "prompt"]:
        with pytest.raises(UserError, match=r"the text has 32 tokens, which leaves no room .* context of 32"):
            attach(roberta(family=family), variant=variant, token_ids=[3] * 32)
        attached = attach(roberta(family=family), variant=variant)
        assert logits_of(attached, torch.full((1, 27), 5)).shape == (1, 2)
        with pytest.raises(UserError, match="an input of 28 tokens after a text of 5, and the context holds 32"):
            attached(input_ids=torch.full((1, 28), 5))


def test_one_matrix_for_keys_and_values_of_different_widths_is_refused():
    from knowtune import SkTuningConfig

    model = deepseek()
    fault = (
        r"transform needs keys and values of one width in all layers; this model's have \[4, 8\]; leave transform out"
    )
    with pytest.raises(UserError, match=fault):
        attach(model, form="released", transform=True)
    assert not hasattr(model.model, "sk_tuning")
    attached = attach(model)
    before = logits_of(attached)
    with pytest.raises(UserError, match=fault):
        attached.add_adapter("other", SkTuningConfig(token_ids=[7], form="released", transform=True))
    assert layer_of(attached).configs.keys() == layer_of(attached).kept.keys() == {"default"}
    assert torch.equal(logits_of(attached), before)
    assert logits_of(attach(deepseek(), variant="prompt", form="released", transform=True)).shape == (2, 6, 24)


def test_models_without_what_a_text_needs_are_refused():
    from transformers import DistilBertConfig, DistilBertForSequenceClassification, T5Config, T5ForConditionalGeneration

    distil = DistilBertForSequenceClassification(DistilBertConfig(vocab_size=24, dim=16, n_layers=1, n_heads=2))
    with pytest.raises(UserError, match="DistilBertModel takes no keys and values; take variant: prompt"):
        attach(distil)
    assert logits_of(attach(distil, variant="prompt")).shape == (2, 2)
    recurrent = {**SIZES, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]}
    with pytest.raises(UserError, match="Lfm2Model, of layer 0, keeps more than keys and values of a text"):
        attach(built("Lfm2ForCausalLM", **recurrent))
    assert logits_of(attach(built("Lfm2ForCausalLM", **recurrent), variant="prompt")).shape == (2, 6, 24)
    sizes = {"vocab_size": 24, "d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    seq2seq = T5ForConditionalGeneration(T5Config(**sizes))
    with pytest.raises(UserError, match="T5ForConditionalGeneration has an encoder and a decoder"):
        attach(seq2seq, task_type=None)
    with pytest.raises(UserError, match="got a Linear; allowed: a language model of transformers"):
        attach(torch.nn.Linear(2, 2), task_type=None)


def test_what_would_drop_the_text_is_refused():
    attached = attach(llama())
    begun = llama()(IDS, use_cache=True).past_key_values
    with pytest.raises(UserError, match="the cache was not begun with the adapter 'default'"):
        attached(input_ids=IDS[:, :1], past_key_values=begun)
    with pytest.raises(UserError, match="rules out static caches"):
        attached.generate(input_ids=IDS, cache_implementation="static", **GREEDY)
    for merge in (attached.merge_adapter, attached.merge_and_unload):
        with pytest.raises(UserError, match="changes no weight, so it cannot be merged"):
            merge()


@pytest.mark.parametrize(
    "make", [llama, bert, lambda: bert("TokenClassification"), lambda: built("LlamaModel", **SIZES)]
)
def test_an_adapter_for_each_row_is_refused(make):
    attached = attach(make())
    for names in (["default", "__base__"], ["default", "default"]):
        with pytest.raises(UserError, match="adapter_names gives each row an adapter of its own"):
            attached(input_ids=IDS, adapter_names=names)
        if hasattr(attached, "generate"):
            with pytest.raises(UserError, match="leave adapter_names out, and give each adapter's rows apart"):
                attached.generate(input_ids=IDS, adapter_names=names, **GREEDY)
    attached(input_ids=IDS, adapter_names=None)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"token_ids": None}, "text: got nothing; allowed: some words"),
        ({"token_ids": None, "text": "  \n"}, "text: got nothing"),
        ({"variant": "suffix"}, "variant: got 'suffix'; allowed: prefix, prompt"),
        ({"form": "own", "pooling": "max"}, "form: got 'own'; allowed: paper, released; pooling: got 'max'"),
        ({"dropout": 1.0}, "dropout: got 1.0; allowed: 0 to less than 1"),
        ({"rank": 0}, "rank: got 0; allowed: 1 or more"),
        (
            {"form": "released", "rank": 2},
            "rank: an option of form: paper; form: released has no projections; leave it out",
        ),
        ({"transform": True}, "transform: an option of form: released"),
        ({"variant": "prompt", "shared": True}, "shared: an option of variant: prefix"),
        ({"pooling": "mean", "task_type": "CAUSAL_LM"}, "pooling: got 'mean' without a head that pools"),
    ],
)
def test_options_that_cannot_be(options, fault):
    from knowtune import SkTuningConfig

    with pytest.raises(UserError, match=fault):
        SkTuningConfig(**{"token_ids": TEXT, **options})
