"""What the text before an input must do, in every form."""

from __future__ import annotations

import pytest
import torch

from knowtune.methods.sk_tuning.tuner.similarity import word_similarity

from .models import (
    CAUSAL,
    IDS,
    TEXT,
    WAYS,
    after_text,
    as_options,
    attach,
    bert,
    deepseek,
    gpt2,
    layer_of,
    left_padded,
    llama,
    logits_of,
    moved,
    num_trained,
    right_padded,
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
        assert torch.allclose(logits_of(attached, **as_options(padded))[:, :-2], expected, atol=1e-5)


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
