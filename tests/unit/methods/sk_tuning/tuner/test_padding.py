"""What padding and positions must not change: the text stands directly before the input."""

from __future__ import annotations

import pytest
import torch

from knowtune.common.errors import UserError

from .models import (
    CAUSAL,
    IDS,
    TEXT,
    WAYS,
    after_text,
    as_options,
    attach,
    bert,
    built,
    left_padded,
    logits_of,
    moved,
    right_padded,
    roberta,
    token_classifier,
)


@pytest.mark.parametrize(("variant", "form"), WAYS)
@pytest.mark.parametrize("make", CAUSAL.values(), ids=CAUSAL)
def test_padding_changes_nothing_and_rows_are_independent(make, variant, form):
    attached = moved(attach(make(), variant=variant, form=form))
    alone = torch.cat([logits_of(attached, row[None]) for row in IDS])
    assert torch.allclose(logits_of(attached), alone, atol=1e-5)
    assert torch.allclose(logits_of(attached, **as_options(right_padded(IDS, 3)))[:, :-3], alone, atol=1e-5)
    if make is not CAUSAL["mistral"]:  # whose window counts padding too, in transformers
        assert torch.allclose(logits_of(attached, **as_options(left_padded(IDS, 3)))[:, 3:], alone, atol=1e-5)


def test_padding_before_an_input_is_right_or_refused_where_a_model_takes_no_positions():
    """Both count by distance (ALiBi): Bloom by the mask, MPT by the place."""
    bloom = {"vocab_size": 24, "hidden_size": 16, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
    mpt = {"vocab_size": 24, "d_model": 16, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}
    left, right = as_options(left_padded(IDS, 3)), as_options(right_padded(IDS, 3))
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
    right, left = (as_options(padded(ids, 3, pad=1)) for padded in (right_padded, left_padded))
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
        options = as_options(padded(ids, 3, pad=1))
        assert torch.allclose(logits_of(attached, **options)[:, own], logits_of(attached, ids), atol=1e-5)


def test_with_a_prefix_padding_takes_positions_where_the_model_gives_it_some():
    """BERT does: against the text, padding and the input in one pass, by a mask."""
    ids, num = torch.cat([torch.tensor([TEXT] * 2), IDS.new_zeros(2, 3), IDS], 1), len(TEXT)
    mask = torch.ones(1, 1, num + 9, num + 9, dtype=torch.bool)
    mask[..., :num, num:] = mask[..., num : num + 3] = False
    with torch.no_grad():
        expected = bert("TokenClassification")(ids, attention_mask=mask.expand(2, -1, -1, -1)).logits[:, num + 3 :]
    left = as_options(left_padded(IDS, 3))
    assert torch.allclose(logits_of(attach(bert("TokenClassification")), **left)[:, 3:], expected, atol=1e-5)


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
