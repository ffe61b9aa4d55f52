"""What cannot be is refused with the reason, and nothing is left behind."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel

from knowtune.common.errors import UserError

from .models import (
    GREEDY,
    IDS,
    SIZES,
    TEXT,
    attach,
    bert,
    built,
    deepseek,
    gpt2,
    layer_of,
    llama,
    logits_of,
    mistral,
    moved,
    token_classifier,
)


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


def test_what_would_drop_the_text_is_refused():
    attached = attach(llama())
    begun = llama()(IDS, use_cache=True).past_key_values
    with pytest.raises(UserError, match="the cache was not begun with the adapter 'default'"):
        attached(input_ids=IDS[:, :1], past_key_values=begun)
    own = attached(input_ids=IDS, use_cache=True).past_key_values
    with (
        attached.disable_adapter(),
        pytest.raises(UserError, match="holds the text of the adapter 'default', which is off"),
    ):
        attached(input_ids=IDS[:, :1], past_key_values=own)
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
        ({"token_ids": None, "text": 5}, "text: got 5; allowed: some words of plain text"),
        ({"token_ids": [], "text": "in words"}, r"token_ids: got \[\]; allowed: one number or more; leave it out"),
        ({"token_ids": ["in"]}, r"token_ids: got \['in'\]; allowed: one number or more"),
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
    assert len(config.pop("base_words")) == 32
    path.write_text(json.dumps(config))
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    assert torch.equal(logits_of(loaded), logits_of(attached)) and loaded.peft_config["default"].base_shape == named


@pytest.mark.parametrize("variant", ["prefix", "prompt"])
def test_another_base_of_the_same_shape_is_warned_of(variant, tmp_path):
    attach(llama(), variant=variant).save_pretrained(tmp_path)
    for same in (llama(), llama().bfloat16(), llama().half()):
        PeftModel.from_pretrained(same, tmp_path)  # where a warning would be an error
    PeftModel.from_pretrained(llama(), tmp_path, low_cpu_mem_usage=True)
    other = llama()
    torch.nn.init.normal_(other.get_input_embeddings().weight, std=0.3)
    for base in (other, llama().bfloat16()):
        base.get_input_embeddings().weight.data.mul_(1.2)
        with pytest.warns(UserWarning, match="of another base of the same shape: the text's embeddings are others"):
            PeftModel.from_pretrained(base, tmp_path)


def test_an_adapter_of_a_base_in_bfloat16_knows_it_in_float32(tmp_path):
    attach(llama().bfloat16()).save_pretrained(tmp_path)
    PeftModel.from_pretrained(llama(), tmp_path)
