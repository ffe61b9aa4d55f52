"""What a model says by itself: greedy answers, in batches of like length, with the KV cache.

Plainly greedy, whatever a checkpoint's own generation settings say: each token is the first choice after what stands
before it, just as `knowtune.tasks.teacher_forcing` judges. An answer ends at an end token of model or tokenizer,
where its row's
ending begins (see `knowtune.text.layout`), at its own limit, or where the model's context does. It is given as it is
written, with every blank but those that join it to its prompt.

Rows of a batch end at different tokens. What has ended is left out of the passes that follow, so that a batch costs
what its rows need and not its longest row times their number. Rows of unlike length are padded on the left where that
changes nothing, which is tried out on the model; else only equal lengths stand in a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.progress import progress
from knowtune.models.hidden_states import end_ids, evaluating, require_room, room
from knowtune.text.batches import batches_by_length, pad
from knowtune.text.encode_rows import encode_prompts
from knowtune.text.layout import Layout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEFT_OUT = 0.25  # share of the rows that must have ended before they are left out, for that copies the cache
TRIED = 16  # tokens of the row on which padding is tried out


@torch.inference_mode()
def greedy_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    batch_size: int,
    max_new_tokens: int | Sequence[int],
    label: str = "answers",
    layouts: Sequence[str] | None = None,
) -> list[str]:
    """Let the model continue each prompt greedily.

    Equal prompts are asked once: a shorter answer is the beginning of a longer one.

    Args:
        model: left as it is, generators included.
        tokenizer: the base's.
        prompts: blanks at their ends are left out, and as many where an answer begins.
        batch_size: prompts that are asked at a time. Another batch changes logits in their last bits, and so an answer
            only where two tokens are equally likely up to these.
        max_new_tokens: where answers end at the latest; one number, or one per prompt.
        label: what the progress bar says.
        layouts: one per prompt, see `knowtune.text.layout`; None: all are plain.

    Raises:
        UserError: a prompt is longer than the model's context.
    """
    asked = [
        _Asked.of(tokenizer, prompt, layout)
        for prompt, layout in zip(prompts, [""] * len(prompts) if layouts is None else layouts, strict=True)
    ]
    limits = [max_new_tokens] * len(asked) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    longest: dict[_Asked, int] = {}
    for one, limit in zip(asked, limits, strict=True):
        longest[one] = max(limit, longest.get(one, 0))
    each, space = list(longest), room(model, tokenizer)
    ids = encode_prompts(tokenizer, [one.prompt for one in each], [one.layout for one in each])
    require_room(model, tokenizer, [len(row) for row in ids])
    ends = [min(limit, space - len(row)) for limit, row in zip(longest.values(), ids, strict=True)]
    written: dict[_Asked, list[int]] = {one: [] for one in each}
    open_ones = [i for i, end in enumerate(ends) if end > 0]
    with evaluating(model), _plain(model):
        writer = _Writer.of(model, tokenizer)
        batches = _batches(writer, [ids[i] for i in open_ones], [ends[i] for i in open_ones], batch_size, space)
        for batch in progress(batches, label):
            chosen = [open_ones[i] for i in batch]
            stops = [each[i].stop for i in chosen]
            answers = writer.write([ids[i] for i in chosen], [ends[i] for i in chosen], stops=stops)
            written.update(zip([each[i] for i in chosen], answers.tolist(), strict=True))
    read = dict(zip(each, ids, strict=True))
    stops_of_all = set(end_ids(model, tokenizer))
    return [
        one.text(tokenizer, read[one], written[one][:limit], stops_of_all, blanks=len(prompt) - len(one.prompt))
        for one, limit, prompt in zip(asked, limits, prompts, strict=True)
    ]


@dataclass(frozen=True)
class _Asked:
    """What is asked, and where its answer ends.

    Args:
        prompt: without the blanks at its end.
        layout: of the prompt.
        ending: what a template writes after the answer.
        stop: the first token of the ending that is no word, -1 where there is none.
    """

    prompt: str
    layout: str
    ending: str
    stop: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, prompt: str, layout: str) -> _Asked:
        """Take a row's prompt and layout."""
        given = Layout.read(layout)
        stop = ending_token(tokenizer, given.ending) if given.ending else -1
        return cls(prompt.rstrip(" "), given.of_prompt().to_text(), given.ending, stop)

    def text(
        self, tokenizer: PreTrainedTokenizerBase, read: list[int], said: Sequence[int], stops: set[int], blanks: int
    ) -> str:
        """Give an answer as text: what reading and answer say beyond the reading, up to an end token or the ending.

        Args:
            tokenizer: the base's.
            read: the prompt's tokens; some tokenizers leave out a blank where a text begins.
            said: the answer's tokens.
            stops: the end tokens of model and tokenizer.
            blanks: how many blanks the prompt had at its end.
        """
        end = next((i for i, token in enumerate(said) if token in stops or token == self.stop), len(said))
        ended = end < len(said)
        if ended and said[end] != self.stop and said[end] not in tokenizer.added_tokens_decoder:
            end += 1  # a model may end with a word
        own = list(said[:end])
        lead, both, alone = tokenizer.batch_decode(
            [read, [*read, *own], own], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        found = both[len(lead) :] if both.startswith(lead) else alone
        while blanks and found.startswith(" "):
            found, blanks = found[1:], blanks - 1
        if self.ending and self.stop < 0:
            return str(found.partition(self.ending)[0])
        if self.ending and ended:  # the template's blanks before its end token are no part of an answer
            before = self.ending[: len(self.ending) - len(self.ending.lstrip())]
            return str(found.removesuffix(before))
        return str(found)


def ending_token(tokenizer: PreTrainedTokenizerBase, ending: str) -> int:
    """Give the first token of an ending that the tokenizer has been given beside its words; -1 where there is none."""
    given: Any = tokenizer(ending, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]
    return next((int(token) for token in given if token in tokenizer.added_tokens_decoder), -1)


@contextmanager
def _plain(model: Any) -> Iterator[None]:
    """Put a model's generation settings aside, but for its end tokens; afterwards they are what they were."""
    from transformers import GenerationConfig

    kept = [(part, part.generation_config) for part in model.modules() if "generation_config" in vars(part)]
    for part, settings in kept:
        part.generation_config = GenerationConfig(eos_token_id=getattr(settings, "eos_token_id", None))
    try:
        yield
    finally:
        for part, settings in kept:
            part.generation_config = settings


def _batches(
    writer: _Writer, ids: Sequence[Sequence[int]], ends: Sequence[int], batch_size: int, space: int
) -> list[list[int]]:
    """Split prompts into batches of like length.

    Of equal length where padding would change answers, and where it would reach beyond the context: there are models
    that count it as a place.
    """
    found = []
    splits = None
    for batch in batches_by_length([len(row) for row in ids], batch_size):
        lengths = [len(ids[i]) for i in batch]
        if min(lengths) == max(lengths):
            found.append(batch)
            continue
        splits = writer.padding_shows(ids[batch[0]]) if splits is None else splits
        if splits or max(lengths) + max(ends[i] for i in batch) > space:
            found += [list(equals) for _, equals in groupby(batch, lambda i: len(ids[i]))]
        else:
            found.append(batch)
    return found


@dataclass(frozen=True)
class _Writer:
    """Writes answers to batches of prompts.

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
    def of(cls, model: Any, tokenizer: PreTrainedTokenizerBase) -> _Writer:
        """Make the writer of a model."""
        filling = next(token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if token is not None)
        stops = torch.tensor(end_ids(model, tokenizer), dtype=torch.long, device=next(model.parameters()).device)
        learning = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
        return cls(model, filling, stops, bool(learning))

    def write(
        self,
        rows: Sequence[Sequence[int]],
        ends: Sequence[int],
        seen: list[torch.Tensor] | None = None,
        stops: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Answer one batch.

        Args:
            rows: the prompts' tokens.
            ends: tokens of each row's answer at the latest.
            seen: takes the logits of each pass; nothing ends before `ends` then.
            stops: a token at which each row's answer ends too, -1 for none.

        Returns:
            The answers' tokens, filled up after their ends  # (batch, longest)
        """
        device = self.stops.device
        found: torch.Tensor = self.model.generate(
            input_ids=pad(rows, self.filling, left=True).to(device),
            attention_mask=pad([[1] * len(row) for row in rows], 0, left=True).to(device),
            max_new_tokens=max(ends),
            do_sample=False,
            pad_token_id=self.filling,
            custom_generate=write,
            ends=torch.tensor(ends, device=device),
            stops=self.stops if seen is None else self.stops[:0],
            own=torch.tensor([-1] * len(rows) if stops is None else list(stops), device=device),
            padded=len({len(row) for row in rows}) > 1,
            seen=seen,
        )
        return found

    def padding_shows(self, row: Sequence[int]) -> bool:
        """Try out whether a row is answered otherwise beside a longer one than read alone, as rows are judged.

        Positions may be counted from the padding on, or otherwise than in a plain pass; recurrent states may take it
        in; it may come to stand between virtual tokens and prompt.
        """
        if self.prompt_learning:
            return True
        long = list(row[:TRIED])
        short, seen = long[: len(long) // 2], list[torch.Tensor]()
        if not short:
            return True
        first = int(self.write([short, long], [2, 2], seen)[0, 0])
        alone = torch.tensor([[*short, first]], device=self.stops.device)
        expected = self.model(input_ids=alone, attention_mask=torch.ones_like(alone)).logits[0, -2:]
        expected, found = expected.float(), torch.stack([logits[0] for logits in seen])
        width = float((expected - expected.mean(-1, keepdim=True)).abs().max())
        bound = torch.finfo(next(self.model.parameters()).dtype).eps ** 0.5 * max(width, 1e-6)
        return not bool((expected - found).abs().max() <= bound)  # NaN shows


def write(
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
    **given: Any,
) -> torch.Tensor:
    """Write greedily, as `generate` does, but go on with the rows alone that have not ended (its `custom_generate`).

    Args:
        model: what `generate` was called on.
        input_ids: prompts, padded on the left  # (batch, seq)
        logits_processor: not used: each token is the plain first choice.
        stopping_criteria: not used: `ends` and `stops` say it.
        generation_config: with the token that fills answers up after their ends.
        ends: tokens of each row's answer at the latest  # (batch,)
        stops: end tokens  # (end tokens,)
        own: a further one for each row, -1 for none  # (batch,)
        padded: whether there is padding; without it positions are counted by the model, as where rows are judged.
        seen: takes the logits of each pass.
        given: what the model's passes take beside the tokens, as `generate` has prepared it.

    Returns:
        The answers' tokens, without the prompts  # (batch, longest)
    """
    filling = generation_config.pad_token_id
    written = input_ids.new_full((len(input_ids), int(ends.max())), filling)
    rows = torch.arange(len(input_ids), device=input_ids.device)  # where what is worked on stands in `written`
    ended = ends < 1
    if not padded:
        given.pop("position_ids", None)
    for place in range(written.shape[1]):
        if ended.all():
            break
        if ended.sum() >= LEFT_OUT * len(rows) and _can_shrink(given.values()):
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
        logits = output.logits[:, -1].float()  # (rows, vocabulary)
        if seen is not None:
            seen.append(logits)
        tokens = logits.argmax(-1).masked_fill(ended, filling)
        written[rows, place] = tokens
        input_ids = torch.cat([input_ids, tokens[:, None]], 1)
        ended = ended | torch.isin(tokens, stops) | (tokens == own[rows]) | (ends[rows] <= place + 1)
    return written


def _can_shrink(given: Iterable[Any]) -> bool:
    """Say whether rows can be taken out of the caches: not out of recurrent states, nor out of one that is compiled.

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
