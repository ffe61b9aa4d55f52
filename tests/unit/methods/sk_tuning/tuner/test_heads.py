"""What a classifier reads, of decoders and encoders."""

from __future__ import annotations

import pytest
import torch

from .models import (
    IDS,
    SIZES,
    TEXT,
    as_options,
    attach,
    bert,
    built,
    left_padded,
    llama,
    logits_of,
    right_padded,
    roberta,
    with_text,
)


@pytest.mark.parametrize("task", [None, "SEQ_CLS"])
@pytest.mark.parametrize("make", [bert, roberta, lambda: roberta(family="Electra", embedding_size=16)])
def test_a_classifier_of_an_encoder_reads_where_the_text_begins(make, task):
    expected = logits_of(make(), with_text(IDS + 2))
    assert torch.allclose(logits_of(attach(make(), variant="prompt", task_type=task), IDS + 2), expected, atol=1e-5)


TUPLES = {  # encoders that give their heads tuples, where the caller wants one
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "MPNet": {"pad_token_id": 1},
    "Nystromformer": {"segment_means_seq_len": 11, "num_landmarks": 11},
}


@pytest.mark.parametrize("family", TUPLES)
def test_a_tuple_is_of_the_same_numbers(family):
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    for kind in ("SequenceClassification", "TokenClassification"):
        attached = attach(built(f"{family}For{kind}", **{**SIZES, **rates, **TUPLES[family]}), variant="prompt")
        options = {"input_ids": IDS + 2, "attention_mask": torch.ones_like(IDS), "output_hidden_states": True}
        with torch.no_grad():
            named, (logits, states) = attached(**options), attached(**options, return_dict=False)
        assert torch.equal(logits, named.logits)
        assert len(states) == len(named.hidden_states) == 3
        assert all(torch.equal(one, other) for one, other in zip(states, named.hidden_states, strict=True))


@pytest.mark.parametrize("pooling", ["mean", "released"])
def test_a_tuple_is_pooled_too(pooling):
    attached = attach(bert(), variant="prompt", pooling=pooling)
    backbone = attached.base_model.model.bert
    with torch.no_grad():
        named, tuples = backbone(IDS), backbone(IDS, return_dict=False)
    assert torch.equal(tuples[0], named.last_hidden_state) and torch.equal(tuples[1], named.pooler_output)


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
    assert torch.allclose(logits_of(attached, **as_options(right_padded(IDS, 3))), expected, atol=1e-5)


@pytest.mark.parametrize("variant", ["prefix", "prompt"])
def test_a_classifier_of_a_decoder_reads_the_last_token(variant):
    expected = logits_of(llama("SequenceClassification"), with_text(IDS))
    attached = attach(llama("SequenceClassification"), variant=variant)
    assert torch.allclose(logits_of(attached), expected, atol=1e-5)
    for padded in (left_padded(IDS, 3), right_padded(IDS, 3)):
        assert torch.allclose(logits_of(attached, **as_options(padded)), expected, atol=1e-5)


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
            assert torch.allclose(logits_of(heads[pooling], **as_options(padded)), score(expected), atol=1e-5)
    assert not torch.allclose(*(logits_of(head, **as_options(padded)) for head in heads.values()), atol=1e-2)


@pytest.mark.parametrize("variant", ["prefix", "prompt"])
def test_a_row_of_padding_alone_has_a_mean_of_zero(variant):
    attached, mask = attach(llama("SequenceClassification"), variant=variant, pooling="mean"), torch.ones_like(IDS)
    expected = logits_of(attached, attention_mask=mask)
    mask[0] = 0
    assert torch.allclose(logits_of(attached, attention_mask=mask)[1], expected[1], atol=1e-5)
    assert torch.equal(logits_of(attached, attention_mask=mask)[0], torch.zeros(2))  # the head has no bias


@pytest.mark.parametrize("variant", ["prefix", "prompt"])
def test_pooling_of_an_encoder_passes_its_pooler_by(variant):
    attached = attach(bert(), variant=variant, pooling="mean")
    with torch.no_grad():
        states = attached.base_model.model.bert(IDS).last_hidden_state
        expected = attached.base_model.model.classifier(states.mean(1))
    assert torch.allclose(logits_of(attached), expected, atol=1e-6)
