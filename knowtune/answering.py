"""What a model says by itself: greedy answers, in batches of like length, with the KV cache.

Rows of a batch end at different tokens: where the model stops, or at their own limit. What has ended is left out of the
passes that follow, so that a batch costs what its rows need and not its longest row times their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from knowtune.encoding import batches_by_length, encode_texts, pad
from knowtune.progress import progress
from knowtune.states import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEFT_OUT = 0.25  # share of the rows that must have ended before they are left out, for that copies the cache


@torch.inference_mode()
def greedy_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    batch_size: int,
    max_new_tokens: int | Sequence[int],
    label: str = "answers",
) -> list[str]:
    """Let the model continue each prompt greedily, padded on the left.

    Equal prompts are asked once: a shorter answer is the beginning of a longer one.

    Args:
        model: left as it is, generators included.
        tokenizer: the base's.
        prompts: blanks at their ends are left out.
        batch_size: prompts that are asked at a time. Another batch changes logits in their last bits, and so an answer
            only where two tokens are equally likely up to these.
        max_new_tokens: where answers end at the latest; one number, or one per prompt.
        label: what the progress bar says.
    """
    device = next(model.parameters()).device
    prompts = [prompt.rstrip(" ") for prompt in prompts]
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    longest: dict[str, int] = {}
    for prompt, limit in zip(prompts, limits, strict=True):
        longest[prompt] = max(limit, longest.get(prompt, 0))
    texts, ends = list(longest), list(longest.values())
    ids = encode_texts(tokenizer, texts, 2**31)
    filling = next(token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if token is not None)
    written: dict[str, list[int]] = {}
    with evaluating(model):
        for batch in progress(_batches(model, ids, batch_size), label):
            rows, last = [ids[i] for i in batch], [ends[i] for i in batch]
            found = model.generate(
                input_ids=pad(rows, filling, left=True).to(device),
                attention_mask=pad([[1] * len(row) for row in rows], 0, left=True).to(device),
                max_new_tokens=max(last),
                do_sample=False,
                pad_token_id=filling,
                custom_generate=write,
                ends=torch.tensor(last, device=device),
            )
            written.update(zip([texts[i] for i in batch], found.tolist(), strict=True))
    cut = [written[prompt][:limit] for prompt, limit in zip(prompts, limits, strict=True)]
    return [text.strip() for text in tokenizer.batch_decode(cut, skip_special_tokens=True)] if cut else []


def _batches(model: Any, ids: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Split prompts into batches of like length.

    Of equal length for prompt-learning adapters: padding would come to stand between virtual tokens and prompt.
    """
    batches = batches_by_length([len(row) for row in ids], batch_size)
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return [list(equals) for batch in batches for _, equals in groupby(batch, lambda i: len(ids[i]))]
    return batches


def write(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    ends: torch.Tensor,
    **given: Any,
) -> torch.Tensor:
    """Write greedily, as `generate` does, but go on with the rows alone that have not ended (its `custom_generate`).

    Args:
        model: what `generate` was called on.
        input_ids: prompts, padded on the left  # (batch, seq)
        logits_processor: what the model's own configuration does to logits.
        stopping_criteria: the model's end tokens.
        generation_config: with the token that fills answers up after their ends.
        ends: tokens of each row's answer at the latest  # (batch,)
        given: what the model's passes take beside the tokens, as `generate` has prepared it.

    Returns:
        The answers' tokens, without the prompts  # (batch, longest)
    """
    filling = generation_config.pad_token_id
    written = input_ids.new_full((len(input_ids), int(ends.max())), filling)
    rows = torch.arange(len(input_ids), device=input_ids.device)  # where what is worked on stands in `written`
    ended = ends < 1
    for place in range(written.shape[1]):
        if ended.all():
            break
        if ended.sum() >= LEFT_OUT * len(rows) and _can_shrink(given.get("past_key_values")):
            going = ~ended
            rows, input_ids, ended = rows[going], input_ids[going], ended[going]
            given = {name: _only(going, value) for name, value in given.items()}
        first = place == 0
        inputs = model.prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=None if first or not given["use_cache"] else 1,
            is_first_iteration=first,
            **given,
        )
        output = model(**inputs, return_dict=True)
        given = model._update_model_kwargs_for_generation(output, given)
        tokens = logits_processor(input_ids, output.logits[:, -1].float()).argmax(-1).masked_fill(ended, filling)
        written[rows, place] = tokens
        input_ids = torch.cat([input_ids, tokens[:, None]], 1)
        ended = ended | stopping_criteria(input_ids, None) | (ends[rows] <= place + 1)
    return written


def _can_shrink(cache: Any) -> bool:
    """Say whether rows can be taken out of a cache: not out of recurrent states, nor out of one that is compiled."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    layers = getattr(cache, "layers", [])
    return len(layers) > 0 and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def _only(going: torch.Tensor, value: Any) -> Any:
    """Take rows out of what a pass takes: a cache, or a mask or positions of (..., batch, seq)."""
    if isinstance(value, torch.Tensor):
        return value[..., going, :] if value.ndim > 1 else value
    if hasattr(value, "batch_select_indices"):
        value.batch_select_indices(going)
    return value
