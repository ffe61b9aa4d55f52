"""Decoding in batches of like length, with the KV cache, on token ids: greedily, or as a caller chooses.

Rows of a batch end at different tokens. Rows that have ended are left out of the passes that follow, so that a batch
costs what its rows need and not its longest row times their number. Rows of unlike length are padded on the left where
that changes nothing, which is tried on the model; else a batch has rows of equal length only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from knowtune.models.hidden_states import end_ids
from knowtune.models.prompt_mask import prompt_option
from knowtune.text.batches import batches_by_length, pad
from knowtune.text.encoded import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEFT_OUT = 0.25  # share of the rows that must have ended before they are left out, for that copies the cache
NUM_TRIED = 16  # tokens of the row on which padding is tried

# Chooses tokens from logits  # (rows, vocabulary), for these rows of the batch  # (rows,), at a position of the answer.
Choose = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def first_choices(logits: torch.Tensor, _: torch.Tensor, __: int) -> torch.Tensor:
    """Take each row's likeliest token  # (rows,)."""
    return logits.argmax(-1)


def split_into_batches(
    decoder: Decoder, ids: Sequence[Sequence[int]], ends: Sequence[int], batch_size: int, space: int
) -> list[list[int]]:
    """Split prompts into batches of like length.

    Of equal length where padding would change answers, and where it would reach beyond the context: there are models
    that count it as a position.
    """
    batches: list[list[int]] = []
    splits = None
    for batch in batches_by_length([len(row) for row in ids], batch_size):
        lengths = [len(ids[i]) for i in batch]
        if min(lengths) == max(lengths):
            batches.append(batch)
            continue
        splits = decoder.padding_changes_answers(ids[batch[0]]) if splits is None else splits
        if splits or max(lengths) + max(ends[i] for i in batch) > space:
            batches += [list(equals) for _, equals in groupby(batch, lambda i: len(ids[i]))]
        else:
            batches.append(batch)
    return batches


@dataclass(frozen=True)
class Decoder:
    """Decodes batches of prompts.

    Args:
        model: in evaluation mode, its generation settings plain.
        filling: the token that pads.
        stops: end tokens  # (end tokens,)
        prompt_learning: whether virtual tokens go before a prompt.
    """

    model: Any
    filling: int
    stops: torch.Tensor
    prompt_learning: bool

    @classmethod
    def of(cls, model: Any, tokenizer: PreTrainedTokenizerBase) -> Decoder:
        """Make the decoder of a model."""
        filling = next(token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if token is not None)
        stops = torch.tensor(end_ids(model, tokenizer), dtype=torch.long, device=next(model.parameters()).device)
        learning = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
        return cls(model, filling, stops, bool(learning))

    def decode(
        self,
        rows: Sequence[Sequence[int]],
        ends: Sequence[int],
        seen: list[torch.Tensor] | None = None,
        stops: Sequence[int] | None = None,
        choose: Choose = first_choices,
    ) -> torch.Tensor:
        """Answer one batch.

        Args:
            rows: the prompts' tokens.
            ends: tokens of each row's answer at the latest.
            seen: takes the logits of each pass; nothing ends before `ends` then.
            stops: a token at which each row's answer ends too, -1 for none.
            choose: takes each token.

        Returns:
            The answers' tokens, filled up after their ends  # (batch, longest)
        """
        device = self.stops.device
        answers: torch.Tensor = self.model.generate(
            input_ids=pad(rows, self.filling, left=True).to(device),
            attention_mask=pad([[1] * len(row) for row in rows], 0, left=True).to(device),
            max_new_tokens=max(ends),
            do_sample=False,
            pad_token_id=self.filling,
            custom_generate=decode_rows,
            ends=torch.tensor(ends, device=device),
            stops=self.stops if seen is None else self.stops[:0],
            own=torch.tensor([-1] * len(rows) if stops is None else list(stops), device=device),
            padded=len({len(row) for row in rows}) > 1,
            seen=seen,
            choose=choose,
        )
        return answers

    def padding_changes_answers(self, row: Sequence[int]) -> bool:
        """Try whether padding changes answers: a row beside a longer one against the same row alone, as it is judged.

        Positions may be counted from the padding on, or otherwise than in a plain pass; recurrent states may take it
        in; it may come to stand between virtual tokens and prompt.
        """
        if self.prompt_learning:
            return True
        long = list(row[:NUM_TRIED])
        short, seen = long[: len(long) // 2], list[torch.Tensor]()
        if not short:
            return True
        first = int(self.decode([short, long], [2, 2], seen)[0, 0])
        alone = torch.tensor([[*short, first]], device=self.stops.device)
        prompt = prompt_option(self.model, torch.tensor([[IGNORE_INDEX] * len(short) + [first]], device=alone.device))
        expected = self.model(input_ids=alone, attention_mask=torch.ones_like(alone), **prompt).logits[0, -2:]
        expected, padded = expected.float(), torch.stack([logits[0] for logits in seen])
        width = float((expected - expected.mean(-1, keepdim=True)).abs().max())
        bound = torch.finfo(next(self.model.parameters()).dtype).eps ** 0.5 * max(width, 1e-6)
        return not bool((expected - padded).abs().max() <= bound)  # NaN does


def decode_rows(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    ends: torch.Tensor,
    stops: torch.Tensor,
    own: torch.Tensor,
    padded: bool,
    seen: list[torch.Tensor] | None,
    choose: Choose,
    **given: Any,
) -> torch.Tensor:
    """Decode as `generate` does, but go on with the rows alone that have not ended (its `custom_generate`).

    Args:
        model: what `generate` was called on.
        input_ids: prompts, padded on the left  # (batch, seq)
        logits_processor: not used: each token is what `choose` takes of the model's own logits.
        stopping_criteria: not used: `ends` and `stops` take their place.
        generation_config: with the token that fills answers up after their ends.
        ends: tokens of each row's answer at the latest  # (batch,)
        stops: end tokens  # (end tokens,)
        own: a further one for each row, -1 for none  # (batch,)
        padded: whether there is padding; without it positions are counted by the model, as where rows are judged.
        seen: takes the logits of each pass.
        choose: takes each token.
        given: what the model's passes take beside the tokens, as `generate` has prepared it.

    Returns:
        The answers' tokens, without the prompts  # (batch, longest)
    """
    filling = generation_config.pad_token_id
    written = input_ids.new_full((len(input_ids), int(ends.max())), filling)
    rows = torch.arange(len(input_ids), device=input_ids.device)  # of `written`
    ended = ends < 1
    if not padded:
        given.pop("position_ids", None)
    for position in range(written.shape[1]):
        if ended.all():
            break
        if ended.sum() >= LEFT_OUT * len(rows) and _can_shrink(given.values()):
            going = ~ended
            rows, input_ids, ended = rows[going], input_ids[going], ended[going]
            given = {name: _only(going, value) for name, value in given.items()}
        first = position == 0
        inputs = model.prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=None if first or not given["use_cache"] else 1,
            is_first_iteration=first,
            **given,
        )
        output = model(**inputs, return_dict=True)
        given = model._update_model_kwargs_for_generation(output, given)
        logits = output.logits[:, -1].float()  # (rows, vocabulary)
        if seen is not None:
            seen.append(logits)
        tokens = choose(logits, rows, position).masked_fill(ended, filling)
        written[rows, position] = tokens
        input_ids = torch.cat([input_ids, tokens[:, None]], 1)
        ended = ended | torch.isin(tokens, stops) | (tokens == own[rows]) | (ends[rows] <= position + 1)
    return written


def _can_shrink(given: Iterable[Any]) -> bool:
    """Tell whether rows can be taken out of the caches: not out of recurrent states, nor out of one that is compiled.

    A cache is known by its type: transformers 5.24 renames the argument `past_key_values` to `cache`.
    """
    from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

    caches = [value for value in given if isinstance(value, Cache)]
    layers = [layer for cache in caches for layer in getattr(cache, "layers", [None])]
    return len(layers) > 0 and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def _only(going: torch.Tensor, value: Any) -> Any:
    """Take rows out of what a pass takes: a cache, or a mask or positions of (..., batch, seq)."""
    if isinstance(value, torch.Tensor):
        return value[..., going, :] if value.ndim > 1 else value
    if hasattr(value, "batch_select_indices"):
        value.batch_select_indices(going)
    return value
