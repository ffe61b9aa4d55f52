"""What is generated is what the model generates that has read the text."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from transformers import StaticCache

from .models import CAUSAL, GREEDY, IDS, TEXT, WAYS, attach, left_padded, llama, logits_of, moved, with_text


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


MORE = torch.tensor([[4, 9, 3, 14, 7, 10, 3, 5, 22], [8, 6, 11, 5, 9, 9, 20, 4, 16]])  # more tokens than the text has


def two_turns(model, first, given=lambda whole, mask: (whole, mask), take=lambda past: past, **options):
    """Generate, and go on after more tokens: from the cache of the first turn, and afresh."""
    turn = model.generate(**first, return_dict_in_generate=True, **GREEDY)
    whole = torch.cat([turn.sequences, MORE], 1)
    mask = torch.ones_like(whole)
    mask[:, : first["attention_mask"].shape[1]] = first["attention_mask"]
    afresh = model.generate(input_ids=whole, attention_mask=mask, **GREEDY)
    ids, mask = given(whole, mask)
    past = take(turn.past_key_values)
    going_on = model.generate(input_ids=ids, attention_mask=mask, past_key_values=past, **GREEDY, **options)
    return going_on[:, -6:], afresh[:, -6:]


@pytest.mark.parametrize("variant", ["prefix", "prompt"])
@pytest.mark.parametrize("make", CAUSAL.values(), ids=CAUSAL)
def test_who_goes_on_from_a_cache_writes_what_a_fresh_run_writes(make, variant):
    attached = moved(attach(make(), variant=variant))
    first = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    assert torch.equal(*two_turns(attached, first))
    if make is not CAUSAL["mistral"]:  # whose window counts padding too, in transformers
        assert torch.equal(*two_turns(attached, left_padded(IDS, 3)))


WAYS_ON = {
    "the new tokens alone": {"given": lambda whole, mask: (whole[:, -len(MORE[0]) - 1 :], mask)},
    "in pieces": {"prefill_chunk_size": 4},
    "from a copy": {"take": copy.deepcopy},
    "from a file": {"take": lambda past: pickle.loads(pickle.dumps(past))},
}


@pytest.mark.parametrize("options", WAYS_ON.values(), ids=WAYS_ON)
@pytest.mark.parametrize("variant", ["prefix", "prompt"])
def test_the_ways_to_go_on_from_a_cache(variant, options):
    attached = moved(attach(llama(), variant=variant))
    assert torch.equal(*two_turns(attached, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}, **options))


@pytest.mark.parametrize("variant", ["prefix", "prompt"])
def test_a_cache_counts_the_input_alone(variant):
    attached = moved(attach(llama(), variant=variant))
    whole = logits_of(attached, torch.cat([IDS, MORE], 1))
    for past in (None, StaticCache(config=attached.config, max_cache_len=32)):
        begun = attached(input_ids=IDS, past_key_values=past, use_cache=True).past_key_values
        assert begun.get_seq_length() == 6 and past in (None, begun)
        following = logits_of(attached, MORE, past_key_values=begun)
        assert torch.allclose(following, whole[:, 6:], atol=1e-5) and begun.get_seq_length() == 15
        begun.reset()
        if past is not None:
            assert begun.get_seq_length() == 0
            assert torch.allclose(logits_of(attached, past_key_values=begun), whole[:, :6], atol=1e-5)
    tuples = attached(input_ids=IDS, use_cache=True, return_dict=False)
    assert torch.allclose(logits_of(attached, MORE, past_key_values=tuples[1]), whole[:, 6:], atol=1e-5)
