"""What is generated is what the model generates that has read the text."""

from __future__ import annotations

import pytest
import torch

from .models import CAUSAL, GREEDY, IDS, TEXT, WAYS, attach, left_padded, llama, moved, with_text


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


SEVERAL = {
    "drawn": {"do_sample": True, "num_return_sequences": 3},
    "beams": {"num_beams": 3, "num_return_sequences": 3},
    "drawn beams": {"do_sample": True, "num_beams": 2, "num_return_sequences": 2},
}


@pytest.mark.parametrize("options", SEVERAL.values(), ids=SEVERAL)
@pytest.mark.parametrize(("variant", "form"), WAYS)
def test_several_answers_are_those_of_the_model_that_has_read_the_text(variant, form, options):
    inputs = [{"input_ids": IDS}, left_padded(IDS, 2), {"input_ids": with_text(IDS)}]
    models = [attach(llama(), variant=variant, form=form)] * 2 + [llama()]
    answers = []
    for model, given in zip(models, inputs, strict=True):
        torch.manual_seed(0)
        answers.append(model.generate(**given, **{**GREEDY, **options})[:, -6:])
    assert answers[0].shape == (2 * options["num_return_sequences"], 6) and len(answers[0].unique(dim=0)) > 2
    assert torch.equal(answers[0], answers[2]) and torch.equal(answers[1], answers[2])


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
