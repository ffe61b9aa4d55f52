"""With the cache, both memories and the query must be what the whole text gives."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig
from transformers import DynamicCache, StaticCache, TextStreamer

from knowtune.common.errors import UserError
from knowtune.models.decoder import Decoder
from tests.unit.methods.sk_tuning.tuner.models import built

from .models import CAUSAL, IDS, INNERS, PROMPT, gemma, layer_of, llama, logits_of, shake, weave

WAYS = [("llama", inner) for inner in INNERS]
WAYS += [(name, inner) for name in ("mistral", "gpt2") for inner in ("lora", "kasa", "ia3", "prefix")]
SHORT = IDS[:, :PROMPT]
NEW = 6
PLAIN = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}


def recompute(model, ids, num=NEW, mask=None):
    """Greedy answers by the whole text at every step, the prompt known."""
    length = ids.shape[1]
    for _ in range(num):
        prompt = (torch.arange(ids.shape[1]) < length)[None].expand(len(ids), -1)
        logits = logits_of(model, ids, prompt_mask=prompt, use_cache=False, attention_mask=mask)
        logits[:, -1, 2] = -torch.inf  # as min_new_tokens does
        ids = torch.cat([ids, logits[:, -1].argmax(-1)[:, None]], 1)
        mask = mask if mask is None else torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    return ids


@pytest.mark.parametrize(("name", "inner"), WAYS)
@torch.no_grad()
def test_step_by_step_it_is_what_the_whole_text_gives(name, inner):
    woven = shake(weave(CAUSAL[name](), inner))
    prompt = (torch.arange(8) < PROMPT)[None].expand(2, -1)
    whole = logits_of(woven, prompt_mask=prompt, use_cache=False)
    first = woven(input_ids=SHORT, use_cache=True)
    assert torch.allclose(first.logits, whole[:, :PROMPT], atol=1e-5)
    cache, steps = first.past_key_values, []
    for place in range(PROMPT, 8):
        assert cache.get_seq_length() == place
        steps.append(woven(input_ids=IDS[:, place : place + 1], past_key_values=cache).logits)
    assert torch.allclose(torch.cat(steps, 1), whole[:, PROMPT:], atol=1e-5)
    pieces = woven(input_ids=IDS[:, PROMPT:], past_key_values=woven(input_ids=SHORT).past_key_values).logits
    assert torch.allclose(pieces, whole[:, PROMPT:], atol=1e-5)


@pytest.mark.parametrize(("name", "inner"), WAYS)
def test_greedy_answers_are_those_of_recomputing(name, inner):
    woven = shake(weave(CAUSAL[name](), inner), scale=0.5)
    assert torch.equal(woven.generate(input_ids=SHORT, **PLAIN), recompute(woven, SHORT))


@pytest.mark.parametrize("inner", ["lora", "prefix"])
def test_left_padding_and_prompts_of_several_lengths_change_no_answer(inner):
    woven = shake(weave(llama(), inner), scale=0.5)
    rows = [SHORT[:1], SHORT[1:, :3]]
    alone = [woven.generate(input_ids=row, **PLAIN)[0, row.shape[1] :] for row in rows]
    ids = torch.cat([rows[0], torch.cat([rows[1].new_zeros(1, 2), rows[1]], 1)])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    together = woven.generate(input_ids=ids, attention_mask=mask, **PLAIN)[:, PROMPT:]
    assert torch.equal(together, torch.stack(alone))
    assert torch.equal(together, recompute(woven, ids, mask=mask)[:, PROMPT:])


@pytest.mark.parametrize("inner", ["lora", "fish", "prompt"])
def test_beams_with_the_cache_are_those_without(inner):
    woven = shake(weave(llama(), inner), scale=0.5)
    options = {
        **PLAIN,
        "num_beams": 3,
        "num_return_sequences": 2,
        "return_dict_in_generate": True,
        "output_scores": True,
    }
    cached = woven.generate(input_ids=SHORT, **options)
    plain = woven.generate(input_ids=SHORT, **options, use_cache=False)
    assert torch.equal(cached.sequences, plain.sequences)
    assert torch.allclose(cached.sequences_scores, plain.sequences_scores, atol=1e-5)


def test_samples_with_the_cache_are_those_without():
    woven = shake(weave(llama()), scale=0.5)
    made = []
    for cached in (True, False):
        torch.manual_seed(3)
        options = {**PLAIN, "do_sample": True, "num_return_sequences": 4, "top_k": 0}
        made.append(woven.generate(input_ids=SHORT, **options, use_cache=cached))
    assert torch.equal(*made) and len(made[0].unique(dim=0)) > 2


def test_tokens_are_streamed():
    class Words:
        def decode(self, ids, **_):
            return "".join(f"{int(token)} " for token in ids)

    class Kept(TextStreamer):
        def on_finalized_text(self, text, stream_end=False):
            self.text = getattr(self, "text", "") + text

    streamer, woven = Kept(Words(), skip_prompt=True), shake(weave(llama()), scale=0.5)
    ids = woven.generate(input_ids=SHORT[:1], streamer=streamer, **PLAIN)
    assert streamer.text.split() == [str(token) for token in ids[0, PROMPT:].tolist()]


@pytest.mark.parametrize("inner", ["lora", "ia3", "prefix"])
def test_rows_that_have_ended_leave_both_memories_and_the_query(inner):
    """By the project's own decoding, whose batches shrink."""
    woven = shake(weave(llama(), inner), scale=0.5)
    rows = [[5, 9, 12], [11, 5, 2], [7, 1, 4], [3, 3, 8]]
    decoder = Decoder(woven, 0, torch.tensor([], dtype=torch.long), False)
    ends = [6, 1, 3, 6]
    together = decoder.decode(rows, ends)
    for row, end, answer in zip(rows, ends, together, strict=True):
        assert torch.equal(decoder.decode([row], [end])[0], answer[:end])


def test_padding_is_seen_to_change_no_answer_of_a_llama():
    woven = shake(weave(llama()))
    decoder = Decoder(woven, 0, torch.tensor([], dtype=torch.long), False)
    with torch.inference_mode():
        assert not decoder.padding_changes_answers([5, 9, 12, 7, 1, 8, 4, 10])


@pytest.mark.parametrize("inner", ["lora", "dora", "kasa", "ia3", "oft", "adalora"])
def test_a_step_is_one_pass_of_the_base_where_the_inner_method_allows_it(inner):
    woven, passes = shake(weave(llama(), inner)), []
    norm = woven.base_model.model.model.norm
    norm.register_forward_hook(lambda _, args, __: passes.append(len(args[0])))
    with torch.no_grad():
        cache = woven(input_ids=SHORT, use_cache=True).past_key_values
        assert passes == [2, 2]
        woven(input_ids=IDS[:, PROMPT : PROMPT + 1], past_key_values=cache)
    assert passes == [2, 2, 4]
    assert all("forward" not in vars(layer) for layer in layer_of(woven).layers)


@pytest.mark.parametrize("inner", ["fish", "prefix", "prompt"])
def test_a_step_is_two_passes_where_it_does_not(inner):
    woven, passes = shake(weave(llama(), inner)), []
    assert layer_of(woven).pairing is None
    woven.base_model.model.model.layers[0].register_forward_hook(lambda _, args, __: passes.append(len(args[0])))
    with torch.no_grad():
        cache = woven(input_ids=SHORT, use_cache=True).past_key_values
        woven(input_ids=IDS[:, PROMPT : PROMPT + 1], past_key_values=cache)
    assert [rows for rows in passes if rows > 1] == [2] * 4  # the text of a prefix is read once, alone


def test_steps_with_gradients_go_on_from_steps_without_and_back():
    woven = shake(weave(llama()))
    prompt = (torch.arange(8) < PROMPT)[None].expand(2, -1)
    whole = logits_of(woven, prompt_mask=prompt, use_cache=False)
    with torch.no_grad():
        cache = woven(input_ids=SHORT, use_cache=True).past_key_values
        woven(input_ids=IDS[:, 5:6], past_key_values=cache)
    logits = woven(input_ids=IDS[:, 6:7], past_key_values=cache).logits
    assert logits.requires_grad and torch.allclose(logits[:, 0], whole[:, 6], atol=1e-5)
    last = logits_of(woven, IDS[:, 7:8], past_key_values=cache)
    assert torch.allclose(last[:, 0], whole[:, 7], atol=1e-5)


def test_the_query_of_an_answer_in_a_chat_that_goes_on_is_all_before_it():
    woven = shake(weave(llama()), scale=0.5)
    cache = DynamicCache(config=woven.base_model.model.config)
    first = woven.generate(input_ids=SHORT, past_key_values=cache, **PLAIN)
    second = torch.cat([first, IDS[:, :3]], 1)
    continued = woven.generate(input_ids=second, past_key_values=cache, **PLAIN)
    assert torch.equal(continued, woven.generate(input_ids=second, **PLAIN))


def test_a_prompt_mask_says_which_tokens_are_the_query():
    woven = shake(weave(llama()), scale=0.5)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0]]).bool()
    ids = SHORT
    for _ in range(NEW):
        prompt = torch.cat([mask, mask.new_zeros(2, ids.shape[1] - PROMPT)], 1)
        logits = logits_of(woven, ids, prompt_mask=prompt, use_cache=False)
        logits[:, -1, 2] = -torch.inf
        ids = torch.cat([ids, logits[:, -1].argmax(-1)[:, None]], 1)
    assert torch.equal(woven.generate(input_ids=SHORT, prompt_mask=mask, **PLAIN), ids)
    assert torch.equal(woven.generate(input_ids=SHORT, prompt_mask=mask, **PLAIN, num_beams=2)[:, :PROMPT], SHORT)
    with pytest.raises(UserError, match="the prompt mask is of 5 tokens, and the input of 3"):
        woven.generate(input_ids=SHORT[:, :3], prompt_mask=mask, **PLAIN)


def test_a_prompt_read_in_chunks_is_one_prompt():
    woven = shake(weave(llama()), scale=0.5)
    assert torch.equal(woven.generate(input_ids=SHORT, prefill_chunk_size=2, **PLAIN), recompute(woven, SHORT))


@torch.no_grad()
def test_a_prompt_of_one_token_is_none_in_training_and_in_generation():
    woven = shake(weave(llama()), scale=0.5)
    labels = torch.cat([torch.full_like(IDS[:, :1], -100), IDS[:, 1:]], 1)
    cache = woven(input_ids=IDS[:, :1], use_cache=True).past_key_values
    steps = [woven(input_ids=IDS[:, place : place + 1], past_key_values=cache).logits for place in range(1, 8)]
    assert torch.allclose(torch.cat(steps, 1), woven(input_ids=IDS, labels=labels).logits[:, 1:], atol=1e-5)


def test_a_candidate_that_another_model_writes_is_no_prompt():
    woven = shake(weave(llama()), scale=0.5)
    assisted = woven.generate(input_ids=SHORT[:1], prompt_lookup_num_tokens=2, **PLAIN)
    assert torch.equal(assisted, recompute(woven, SHORT[:1]))


SMALL = {"vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 2, "pad_token_id": 0, "bos_token_id": 1}
WIDE = {**SMALL, "num_attention_heads": 4, "intermediate_size": 24, "num_key_value_heads": 2}
OTHERS = {  # experts, a window beside none, learned positions, a head that scales; keys and values beside other states
    "MixtralForCausalLM": {**WIDE, "num_local_experts": 4},
    "Gemma3ForCausalLM": {**WIDE, "head_dim": 4, "sliding_window": 6, "query_pre_attn_scalar": 4},
    "OPTForCausalLM": {**SMALL, "num_attention_heads": 4, "ffn_dim": 24, "word_embed_proj_dim": 16},
    "GraniteForCausalLM": {**WIDE, "logits_scaling": 3.0},
    "Lfm2ForCausalLM": {**WIDE, "layer_types": ["conv", "full_attention"]},
}


@pytest.mark.parametrize("name", OTHERS)
def test_answers_of_other_kinds_of_models_are_those_of_recomputing(name):
    def make():
        return built(name, **{"initializer_range": 0.3, "eos_token_id": 2, "init_std": 0.3, **OTHERS[name]})

    woven = weave(make(), LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"]))
    assert torch.equal(logits_of(woven), logits_of(make()))
    shake(woven, scale=0.5)
    assert (logits_of(woven) - logits_of(make())).abs().max() > 1e-2
    assert torch.equal(woven.generate(input_ids=SHORT, **PLAIN), recompute(woven, SHORT))


def test_a_model_without_keys_and_values_answers_without_a_cache():
    model = built("MambaForCausalLM", **SMALL, state_size=4, eos_token_id=2)
    woven = shake(weave(model, LoraConfig(r=2, target_modules=["in_proj"])))
    with pytest.raises(
        UserError, match=r"MambaModel keeps no keys and values, but a state of its own.*use_cache=False"
    ):
        woven.generate(input_ids=SHORT, **PLAIN)
    assert torch.equal(woven.generate(input_ids=SHORT, use_cache=False, **PLAIN), recompute(woven, SHORT))


def test_hidden_states_and_attentions_of_a_step_are_the_tuned_models():
    woven = shake(weave(gemma()))
    options = {"output_hidden_states": True, "use_cache": True}
    with torch.no_grad():
        prompt = (torch.arange(8) < PROMPT)[None].expand(2, -1)
        whole = woven(input_ids=IDS, prompt_mask=prompt, **options).hidden_states
        cache = woven(input_ids=SHORT, use_cache=True).past_key_values
        step = woven(input_ids=IDS[:, 5:6], past_key_values=cache, **options).hidden_states
    assert all(torch.allclose(a[:, 0], b[:, 5], atol=1e-4) for a, b in zip(step, whole, strict=True))


def test_a_copied_cache_goes_on_by_itself():
    woven = shake(weave(llama()))
    with torch.no_grad():
        cache = woven(input_ids=SHORT, use_cache=True).past_key_values
        woven(input_ids=IDS[:, 5:6], past_key_values=cache)
        other = copy.deepcopy(cache)
        one = woven(input_ids=IDS[:, 6:7], past_key_values=cache).logits
        woven(input_ids=IDS[:, 7:8], past_key_values=cache)
        assert torch.equal(woven(input_ids=IDS[:, 6:7], past_key_values=other).logits, one)


@pytest.mark.parametrize("inner", ["lora", "ia3", "fish"])
def test_a_copied_model_answers_by_its_own_weights(inner):
    woven = shake(weave(llama(), inner), scale=0.5)
    other, expected = copy.deepcopy(woven), woven.generate(input_ids=SHORT, **PLAIN)
    for parameter in woven.parameters():
        parameter.data.zero_()
    assert torch.equal(other.generate(input_ids=SHORT, **PLAIN), expected)


def test_caches_that_cannot_hold_both_memories_are_refused():
    woven = weave(llama())
    config = woven.base_model.model.config
    with pytest.raises(UserError, match="two memories; got StaticCache, allowed: a DynamicCache"):
        logits_of(woven, past_key_values=StaticCache(config=config, max_cache_len=16))
    with woven.disable_adapter(), torch.no_grad():
        begun = woven(input_ids=SHORT, use_cache=True).past_key_values
    with pytest.raises(UserError, match="was not begun with the adapter 'default'; give an empty one"):
        logits_of(woven, IDS[:, 5:6], past_key_values=begun)


@pytest.mark.parametrize("inner", ["lora", "fish"])
def test_an_adapter_that_changes_nothing_gives_the_bases_answers(inner):
    woven = weave(llama(), inner)
    for parameter in layer_of(woven).parameters():
        parameter.data.normal_(0, 30)
    assert torch.equal(woven.generate(input_ids=SHORT, **PLAIN), llama().generate(input_ids=SHORT, **PLAIN))


def test_the_bases_own_answers_come_back_with_the_adapter_off():
    woven = shake(weave(llama()), scale=0.5)
    expected = llama().generate(input_ids=SHORT, **PLAIN)
    with woven.disable_adapter():
        assert torch.equal(woven.generate(input_ids=SHORT, **PLAIN), expected)
    assert not torch.equal(woven.generate(input_ids=SHORT, **PLAIN), expected)
