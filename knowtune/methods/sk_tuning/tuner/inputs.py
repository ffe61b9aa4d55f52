"""What a backbone is given once a text stands before the input: mask, positions, embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from knowtune.common.errors import UserError
from knowtune.methods.sk_tuning.tuner.cache import full_length, holder_of
from knowtune.methods.sk_tuning.tuner.reading import reads_forward
from knowtune.models.arguments import arguments_of

BY_MASK = ("bloom",)  # models without positions that count by the mask what is no padding


@dataclass(frozen=True)
class Pass:
    """One pass of a backbone over an input.

    Args:
        adapter: its name.
        num: tokens of the text.
        begun: whether the cache holds the text already.
        prompt: positions of a prompt that come before the input's own; 0 where the cache holds them.
        mask: of the input, 0 for padding; None: there is none  # (batch, seq)
        cached: whether the caller wants a cache back.
    """

    adapter: str
    num: int
    begun: bool
    prompt: int
    mask: torch.Tensor | None
    cached: bool


def read_pass(backbone: Any, given: dict[str, Any], adapter: str, config: Any, context: int | None) -> Pass:
    """Take what a caller gives, to a model of so many tokens of context (None: of any number).

    Raises:
        UserError: a text cannot stand before it.
    """
    mask, past = given.get("attention_mask"), given.get("past_key_values")
    if mask is not None and (not isinstance(mask, torch.Tensor) or mask.ndim != 2):
        raise UserError("SK-Tuning needs a mask of (batch, tokens), which also rules out static caches")
    begun = bool(full_length(past) > 0)
    if begun and holder_of(past) != adapter:
        raise UserError(
            f"SK-Tuning: the cache was not begun with the adapter {adapter!r}; give an empty one, or the whole input"
        )
    num, length = config.num_virtual_tokens, tokens_of(given).shape[1]
    if not begun and context is not None and num + length > context:
        raise UserError(
            f"SK-Tuning: an input of {length} tokens after a text of {num}, and the context holds {context}; give "
            "shorter inputs or a shorter text"
        )
    use_cache = given.get("use_cache")
    cached = past is not None or (getattr(backbone.config, "use_cache", False) if use_cache is None else use_cache)
    return Pass(adapter, num, begun, num if config.variant == "prompt" and not begun else 0, mask, bool(cached))


def tokens_of(given: dict[str, Any]) -> torch.Tensor:
    """Return the input: ids  # (batch, seq) or embeddings  # (batch, seq, hidden)."""
    tokens: torch.Tensor = given["inputs_embeds"] if given.get("input_ids") is None else given["input_ids"]
    return tokens


def kind_of(backbone: Any) -> str:
    """Return what transformers calls the model."""
    return str(backbone.config.model_type)


def show_text(backbone: Any, given: dict[str, Any], run: Pass, start: int) -> None:
    """Show the text in the mask, and count positions from it on, without padding that lies between.

    What is computed is what the model makes of the text with the input directly after it. Where padding lies between,
    positions set that right only in models that read forward and take them. With a prompt, an encoder's would not: some
    count by the place (DeBERTa, windows of ModernBERT), others by the tokens, which embeddings hide (RoBERTa).

    Args:
        backbone: the model.
        given: to it; changed in place.
        run: the pass.
        start: the position of a text's first token.

    Raises:
        UserError: the model would count that padding.
    """
    tokens, mask, positions = tokens_of(given), run.mask, given.get("position_ids")
    batch, length = tokens.shape[:2]
    forward, takes = reads_forward(backbone), "position_ids" in arguments_of(backbone)
    counts = positions is None and not takes and kind_of(backbone) not in BY_MASK if forward else run.prompt > 0
    if mask is None and not forward:
        mask = torch.ones(batch, length, dtype=torch.long, device=tokens.device)
    if mask is not None:
        mask = torch.cat([mask.new_ones(batch, run.num), mask], 1)  # (batch, text + seq)
        if counts and not mask[:, run.num].all():
            raise UserError(
                f"SK-Tuning: padding lies between the text and an input, and {kind_of(backbone)} counts it as tokens; "
                'pad on the right (tokenizer.padding_side = "right"), or give rows of equal length'
            )
        given["attention_mask"] = mask
    if positions is not None:
        begin = 0 if forward else start  # generation counts from 0 in every model
        first = torch.arange(begin, begin + run.prompt, device=positions.device)
        first = first.expand(*positions.shape[:-1], run.prompt)
        given["position_ids"] = torch.cat([first, positions + run.num], -1)
    elif mask is not None and forward and takes:
        lead = (mask[:, run.num :].cumsum(1) == 0).sum(1, keepdim=True)  # padding between text and input
        counted = torch.arange(mask.shape[1], device=mask.device) - lead * (mask.cumsum(1) > run.num)
        given["position_ids"] = start + counted[:, -(length + run.prompt) :]
    given.pop("cache_position", None)  # the backbone counts by its cache


def put_prompt(backbone: Any, given: dict[str, Any], prompt: torch.Tensor) -> None:
    """Put embeddings before the input's  # (text, hidden)."""
    embeds = given.get("inputs_embeds")
    if embeds is None:
        embeds = backbone.get_input_embeddings()(given["input_ids"])
    batch = prompt.to(embeds.dtype).expand(len(embeds), -1, -1)
    given |= {"input_ids": None, "inputs_embeds": torch.cat([batch, embeds], 1)}  # (batch, text + seq, hidden)
    kinds = given.get("token_type_ids")
    if kinds is not None:
        given["token_type_ids"] = torch.cat([kinds.new_zeros(len(kinds), len(prompt)), kinds], 1)
