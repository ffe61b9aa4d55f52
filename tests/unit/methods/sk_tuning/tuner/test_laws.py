"""What the text before an input must do, in every form."""

from __future__ import annotations

import pytest
import torch

from knowtune.common.errors import UserError
from knowtune.methods.sk_tuning.tuner.similarity import word_similarity

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
    moved,
    num_trained,
    right_padded,
    roberta,
    token_classifier,
    with_text,
)


@pytest.mark.parametrize(("variant", "form"), WAYS)
@pytest.mark.parametrize("make", CAUSAL.values(), ids=CAUSAL)
def test_at_first_it_is_the_model_that_has_read_the_text(make, variant, form):
    expected = after_text(make())
    attached = attach(make(), variant=variant, form=form)
    assert (expected - logits_of(make())).abs().max() > 0.1
    for options in ({}, {"use_cache": False}, {"use_cache": True}, {"attention_mask": torch.ones_like(IDS)}):
        assert torch.allclose(logits_of(attached, **options), expected, atol=1e-5)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_prompts_begin_at_the_texts_embeddings(form):
    model = llama()
    words = model.get_input_embeddings().weight[TEXT].detach()
    assert torch.equal(layer_of(attach(model, variant="prompt", form=form)).prompt("default"), words)


@pytest.mark.parametrize("make", CAUSAL.values(), ids=CAUSAL)
def test_prefix_and_prompt_of_equal_embeddings_give_equal_states(make):
    prefix, prompt = (moved(attach(make(), variant=variant, form="released")) for variant in ("prefix", "prompt"))
    for padded in ({"input_ids": IDS}, right_padded(IDS, 2), left_padded(IDS, 2)):
        mask = padded.get("attention_mask", torch.ones_like(IDS)).bool()
        with torch.no_grad():
            one, other = (m(**padded, output_hidden_states=True).hidden_states for m in (prefix, prompt))
        assert len(one) == len(other) == 3
        assert all(torch.allclose(a[mask], b[mask], atol=1e-5) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("variant", ["prefix", "prompt"])
def test_the_identity_as_transform_is_no_transform(variant):
    plain, transformed = (
        attach(llama(), variant=variant, form="released", transform=transform) for transform in (False, True)
    )
    assert torch.allclose(logits_of(plain), logits_of(transformed), atol=1e-6)
    assert not torch.allclose(logits_of(plain), logits_of(moved(transformed)), atol=1e-2)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"form": "released"}, 5 * 16),
        ({"form": "released", "transform": True}, 5 * 16 + 4 * 4),
        ({"form": "released", "variant": "prompt", "transform": True}, 5 * 16 + 16 * 16),
        ({}, 2 * 2 * 8 * 8),
        ({"shared": True}, 2 * 8 * 8),
        ({"rank": 3}, 2 * 2 * 2 * 3 * 8),
        ({"variant": "prompt"}, 16 * 16),
        ({"variant": "prompt", "rank": 2}, 2 * 2 * 16),
    ],
)
def test_the_number_of_trained_parameters(options, expected):
    assert num_trained(attach(llama(), **options)) == expected
    head = 16 * 2
    assert num_trained(attach(llama("SequenceClassification"), **options)) == expected + head


def test_keys_and_values_of_different_widths_have_projections_of_their_own():
    assert num_trained(attach(deepseek())) == 2 * (8 * 8 + 4 * 4)
    assert num_trained(attach(deepseek(), shared=True)) == 8 * 8 + 4 * 4
    assert num_trained(attach(deepseek(), rank=2)) == 2 * 2 * 2 * (8 + 4)
    for options in ({}, {"shared": True}, {"rank": 2}):
        assert torch.allclose(logits_of(attach(deepseek(), **options)), after_text(deepseek()), atol=1e-5)


@pytest.mark.parametrize(("variant", "form"), WAYS)
def test_training_leaves_the_base_as_it_is(variant, form):
    plain = llama()
    attached = attach(llama(), variant=variant, form=form, dropout=0.1).train()
    trained = {name: p.detach().clone() for name, p in attached.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in attached.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = attached(input_ids=IDS, labels=IDS).loss
        loss.backward()
        losses.append(float(loss.detach()))
        assert all((p.grad is None) != p.requires_grad for p in attached.parameters())
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    after = dict(attached.named_parameters())
    assert not any(torch.equal(after[name], before) for name, before in trained.items())
    with attached.disable_adapter():
        assert torch.equal(logits_of(attached), logits_of(plain))
    unloaded = attached.unload()
    assert all(torch.equal(p, q) for p, q in zip(unloaded.parameters(), plain.parameters(), strict=True))
    assert torch.equal(logits_of(unloaded.eval()), logits_of(plain))


@pytest.mark.parametrize(("variant", "form"), WAYS)
@pytest.mark.parametrize("make", CAUSAL.values(), ids=CAUSAL)
def test_padding_changes_nothing_and_rows_are_independent(make, variant, form):
    attached = moved(attach(make(), variant=variant, form=form))
    alone = torch.cat([logits_of(attached, row[None]) for row in IDS])
    assert torch.allclose(logits_of(attached), alone, atol=1e-5)
    assert torch.allclose(logits_of(attached, **_as_options(right_padded(IDS, 3)))[:, :-3], alone, atol=1e-5)
    if make is not CAUSAL["mistral"]:  # whose window counts padding too, in transformers
        assert torch.allclose(logits_of(attached, **_as_options(left_padded(IDS, 3)))[:, 3:], alone, atol=1e-5)


def test_padding_before_an_input_is_right_or_refused_where_a_model_takes_no_positions():
    """Both count by distance (ALiBi): Bloom by the mask, MPT by the place."""
    bloom = {"vocab_size": 24, "hidden_size": 16, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
    mpt = {"vocab_size": 24, "d_model": 16, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}
    left, right = _as_options(left_padded(IDS, 3)), _as_options(right_padded(IDS, 3))
    for variant in ("prefix", "prompt"):
        attached = moved(attach(built("BloomForCausalLM", **bloom), variant=variant))
        assert torch.allclose(logits_of(attached, **left)[:, 3:], logits_of(attached), atol=1e-5)
        attached = moved(attach(built("MptForCausalLM", **mpt), variant=variant))
        assert torch.allclose(logits_of(attached, **right)[:, :-3], logits_of(attached), atol=1e-5)
        with pytest.raises(UserError, match="mpt counts it as tokens; pad on the right"):
            logits_of(attached, **left)


ENCODERS = {
    "Bert": {},
    "Electra": {"embedding_size": 16},
    "Roberta": {},
    "XLMRoberta": {},
    "MPNet": {},
    "ModernBert": {"local_attention": 6},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
}


@pytest.mark.parametrize("family", ENCODERS)
def test_with_a_prompt_an_encoders_padding_stands_behind_or_is_refused(family):
    ids, plain = IDS + 2, token_classifier(family, **ENCODERS[family])
    at_first = attach(token_classifier(family, **ENCODERS[family]), variant="prompt")
    right, left = (_as_options(padded(ids, 3, pad=1)) for padded in (right_padded, left_padded))
    assert torch.allclose(logits_of(at_first, ids), after_text(plain, ids), atol=1e-5)
    assert torch.allclose(logits_of(at_first, **right)[:, :-3], after_text(plain, ids), atol=1e-5)
    attached = moved(at_first)
    assert torch.allclose(logits_of(attached, **right)[:, :-3], logits_of(attached, ids), atol=1e-5)
    for given in ({}, {"position_ids": torch.arange(9).expand(2, -1)} if family != "MPNet" else {}):
        with pytest.raises(UserError, match="counts it as tokens; pad on the right"):
            logits_of(attached, **left, **given)


@pytest.mark.parametrize("family", ["Roberta", "XLMRoberta"])
def test_with_a_prefix_an_encoder_counts_padding_as_it_does_without(family):
    ids, attached = IDS + 2, moved(attach(token_classifier(family)))
    for padded, own in ((right_padded, slice(0, 6)), (left_padded, slice(3, 9))):
        options = _as_options(padded(ids, 3, pad=1))
        assert torch.allclose(logits_of(attached, **options)[:, own], logits_of(attached, ids), atol=1e-5)


def test_with_a_prefix_padding_takes_positions_where_the_model_gives_it_some():
    """BERT does: against the text, padding and the input in one pass, by a mask."""
    ids, num = torch.cat([torch.tensor([TEXT] * 2), IDS.new_zeros(2, 3), IDS], 1), len(TEXT)
    mask = torch.ones(1, 1, num + 9, num + 9, dtype=torch.bool)
    mask[..., :num, num:] = mask[..., num : num + 3] = False
    with torch.no_grad():
        expected = bert("TokenClassification")(ids, attention_mask=mask.expand(2, -1, -1, -1)).logits[:, num + 3 :]
    left = _as_options(left_padded(IDS, 3))
    assert torch.allclose(logits_of(attach(bert("TokenClassification")), **left)[:, 3:], expected, atol=1e-5)


def _as_options(padded):
    return {"ids": padded["input_ids"], "attention_mask": padded["attention_mask"]}


def test_positions_begin_where_the_models_own_do():
    """After the rows for padding, of which RoBERTa has two."""
    ids, ones, given = IDS + 2, torch.ones_like(IDS), torch.arange(2, 8).expand(2, -1)
    decoder = {"kind": "CausalLM", "is_decoder": True}
    for variant in ("prefix", "prompt"):
        attached = attach(roberta(**decoder), variant=variant)
        expected = after_text(roberta(**decoder), ids)
        assert torch.allclose(logits_of(attached, ids), expected, atol=1e-5)
        assert torch.allclose(logits_of(attached, ids, attention_mask=ones), expected, atol=1e-5)
    attached = attach(roberta("TokenClassification"), variant="prompt")
    expected = logits_of(attached, ids)
    assert torch.allclose(logits_of(attached, ids, position_ids=given), expected, atol=1e-5)
    assert torch.allclose(after_text(roberta("TokenClassification"), ids), expected, atol=1e-5)


def test_an_encoder_reads_the_input_beside_the_text_that_was_read_alone():
    """Against the same in one pass, by a mask: the text sees itself alone, the input sees both."""
    num, whole = len(TEXT), len(TEXT) + IDS.shape[1]
    mask = torch.ones(1, 1, whole, whole, dtype=torch.bool)
    mask[..., :num, num:] = False
    with torch.no_grad():
        plain = bert("TokenClassification")
        expected = plain(with_text(IDS), attention_mask=mask.expand(2, -1, -1, -1)).logits[:, num:]
        assert not torch.allclose(expected, plain(IDS).logits, atol=1e-2)
    for form in ("paper", "released"):
        attached = attach(bert("TokenClassification"), form=form)
        assert torch.allclose(logits_of(attached), expected, atol=1e-5)
        padded = right_padded(IDS, 2)
        assert torch.allclose(logits_of(attached, **_as_options(padded))[:, :-2], expected, atol=1e-5)


def test_an_encoder_with_a_prompt_reads_both_together():
    plain = bert("TokenClassification")
    expected = logits_of(plain, with_text(IDS))[:, len(TEXT) :]
    kinds = torch.zeros_like(IDS)
    for form in ("paper", "released"):
        attached = attach(bert("TokenClassification"), variant="prompt", form=form)
        assert torch.allclose(logits_of(attached), expected, atol=1e-5)
        assert torch.allclose(logits_of(attached, token_type_ids=kinds), expected, atol=1e-5)
        loss = attached(input_ids=IDS, labels=torch.ones_like(IDS)).loss
        assert torch.isfinite(loss) and logits_of(attached).shape == (2, 6, 2)


@pytest.mark.parametrize("task", [None, "SEQ_CLS"])
@pytest.mark.parametrize("make", [bert, roberta, lambda: roberta(family="Electra", embedding_size=16)])
def test_a_classifier_of_an_encoder_reads_where_the_text_begins(make, task):
    expected = logits_of(make(), with_text(IDS + 2))
    assert torch.allclose(logits_of(attach(make(), variant="prompt", task_type=task), IDS + 2), expected, atol=1e-5)


def test_a_class_of_ones_own_is_known_by_what_it_is_made_from_or_by_its_task():
    class Mine(type(roberta())):
        pass

    class Other(type(roberta("TokenClassification"))):
        def forward(self, input_ids, **_options):
            first = self.roberta(input_ids).last_hidden_state[:, :1]
            return type("Output", (), {"logits": self.classifier(first)})()

    for kind, task in ((Mine, None), (Other, "SEQ_CLS")):
        torch.manual_seed(0)
        plain = kind(roberta().config).eval()
        expected = logits_of(plain, with_text(IDS + 2))
        assert torch.allclose(logits_of(attach(plain, variant="prompt", task_type=task), IDS + 2), expected, atol=1e-5)


@pytest.mark.parametrize("task", [None, "SEQ_CLS"])
def test_a_classifiers_own_mean_is_over_the_input(task):
    sizes = {"classifier_pooling": "mean", "local_attention": 40}
    attached = attach(built("ModernBertForSequenceClassification", **SIZES, **sizes), variant="prompt", task_type=task)
    plain = built("ModernBertForSequenceClassification", **SIZES, **sizes)
    with torch.no_grad():
        inputs = plain.model(with_text(IDS)).last_hidden_state[:, len(TEXT) :]
        expected = plain.classifier(plain.head(inputs.mean(1)))
    assert torch.allclose(logits_of(attached), expected, atol=1e-5)
    assert torch.allclose(logits_of(attached, **_as_options(right_padded(IDS, 3))), expected, atol=1e-5)


@pytest.mark.parametrize("variant", ["prefix", "prompt"])
def test_a_classifier_of_a_decoder_reads_the_last_token(variant):
    expected = logits_of(llama("SequenceClassification"), with_text(IDS))
    attached = attach(llama("SequenceClassification"), variant=variant)
    assert torch.allclose(logits_of(attached), expected, atol=1e-5)
    for padded in (left_padded(IDS, 3), right_padded(IDS, 3)):
        assert torch.allclose(logits_of(attached, **_as_options(padded)), expected, atol=1e-5)


@pytest.mark.parametrize("variant", ["prefix", "prompt"])
def test_pooling_is_a_mean_over_the_input_or_over_everything(variant):
    num, padded = len(TEXT), right_padded(IDS, 2)
    states = llama()  # the classifier's backbone has the same weights
    heads = {pooling: attach(llama("SequenceClassification"), variant=variant, pooling=pooling)
             for pooling in ("mean", "released")}  # fmt: skip
    weights = heads["mean"].base_model.model.model.state_dict()
    states.model.load_state_dict({name: tensor for name, tensor in weights.items() if "sk_" not in name})
    mask = torch.cat([torch.ones(2, num, dtype=torch.long), padded["attention_mask"]], 1)
    with torch.no_grad():
        whole = states.model(with_text(padded["input_ids"]), attention_mask=mask).last_hidden_state
    inputs = whole[:, num:-2]
    everything = whole if variant == "prompt" else whole[:, num:]
    for pooling, expected in (("mean", inputs.mean(1)), ("released", everything.mean(1))):
        score = heads[pooling].base_model.model.score.modules_to_save["default"]
        with torch.no_grad():
            assert torch.allclose(logits_of(heads[pooling], **_as_options(padded)), score(expected), atol=1e-5)
    assert not torch.allclose(*(logits_of(head, **_as_options(padded)) for head in heads.values()), atol=1e-2)


@pytest.mark.parametrize("variant", ["prefix", "prompt"])
def test_pooling_of_an_encoder_passes_its_pooler_by(variant):
    attached = attach(bert(), variant=variant, pooling="mean")
    with torch.no_grad():
        states = attached.base_model.model.bert(IDS).last_hidden_state
        expected = attached.base_model.model.classifier(states.mean(1))
    assert torch.allclose(logits_of(attached), expected, atol=1e-6)


def test_dropout_is_of_training_alone():
    for variant, form in WAYS:
        attached = attach(llama(), variant=variant, form=form, dropout=0.5)
        assert torch.equal(logits_of(attached), logits_of(attached))
        attached.train()
        assert not torch.equal(logits_of(attached), logits_of(attached))


def test_the_text_is_read_in_evaluation_mode():
    noisy = gpt2()
    for module in noisy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    attached = attach(noisy).train()
    layer_of(attached).kept.clear()
    one, other = (layer_of(model).prefix("default") for model in (attached, attach(gpt2())))
    assert all(torch.equal(a, b) for state, same in zip(one, other, strict=True)
               for a, b in zip(state, same, strict=True))  # fmt: skip
    assert all(module.training for module in attached.modules())


@pytest.mark.parametrize(("variant", "form"), WAYS)
def test_similarity_is_1_at_the_words_and_falls_from_them(variant, form):
    attached = attach(llama(), variant=variant, form=form, dropout=0.5).train()
    assert word_similarity(attached) == pytest.approx(1.0, abs=1e-6)
    near, far = (word_similarity(moved(attached, scale)) for scale in (0.05, 1.0))
    assert 1.0 > near > far > -1.0 and attached.training


def test_similarity_of_a_prompt_by_hand():
    model = llama()
    words = model.get_input_embeddings().weight[TEXT].detach()
    attached = attach(model, variant="prompt", form="released")
    with torch.no_grad():
        layer_of(attached).sk_text["default"].embeddings[:2] *= -3  # two of five point the other way
    assert torch.nn.functional.cosine_similarity(words, words).allclose(torch.ones(5))
    assert word_similarity(attached) == pytest.approx((3 - 2) / 5, abs=1e-6)
