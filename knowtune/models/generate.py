"""Greedy answers of a language model, from prompts as text to answers as text.

Plainly greedy, whatever a checkpoint's own generation settings are: each token is the model's first choice after the
tokens before it, as `knowtune.tasks.teacher_forcing` judges. An answer ends at an end token of model or tokenizer,
where its row's ending begins (see `knowtune.text.layout`), at its own limit, or where the model's context ends. It is
returned as the model writes it, with every blank but those that join it to its prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.progress import progress
from knowtune.models.decoder import Decoder, split_into_batches
from knowtune.models.hidden_states import end_ids, evaluating, require_room, room
from knowtune.text.encode_rows import encode_prompts
from knowtune.text.layout import Layout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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

    Equal prompts are answered once: a shorter answer is the beginning of a longer one.

    Args:
        model: left as it is, generators included.
        tokenizer: the base's.
        prompts: blanks at their ends are left out, and as many where an answer begins.
        batch_size: prompts of a batch. Another batch changes logits in their last bits, and so an answer
            only where two tokens are equally likely up to these.
        max_new_tokens: where answers end at the latest; one number, or one per prompt.
        label: what the progress bar says.
        layouts: one per prompt, see `knowtune.text.layout`; None: all are plain.

    Raises:
        UserError: a prompt is longer than the model's context.
    """
    questions = [
        _Question.of(tokenizer, prompt, layout)
        for prompt, layout in zip(prompts, [""] * len(prompts) if layouts is None else layouts, strict=True)
    ]
    limits = [max_new_tokens] * len(questions) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    longest: dict[_Question, int] = {}
    for question, limit in zip(questions, limits, strict=True):
        longest[question] = max(limit, longest.get(question, 0))
    distinct, space = list(longest), room(model, tokenizer)
    ids = encode_prompts(tokenizer, [question.prompt for question in distinct], [q.layout for q in distinct])
    require_room(model, tokenizer, [len(row) for row in ids])
    ends = [min(limit, space - len(row)) for limit, row in zip(longest.values(), ids, strict=True)]
    written: dict[_Question, list[int]] = {question: [] for question in distinct}
    unanswered = [i for i, end in enumerate(ends) if end > 0]
    with evaluating(model), plain_settings(model):
        decoder = Decoder.of(model, tokenizer)
        lengths = [ids[i] for i in unanswered], [ends[i] for i in unanswered]
        for batch in progress(split_into_batches(decoder, *lengths, batch_size, space), label):
            chosen = [unanswered[i] for i in batch]
            stops = [distinct[i].stop for i in chosen]
            answers = decoder.decode([ids[i] for i in chosen], [ends[i] for i in chosen], stops=stops)
            written.update(zip([distinct[i] for i in chosen], answers.tolist(), strict=True))
    read = dict(zip(distinct, ids, strict=True))
    end_tokens = set(end_ids(model, tokenizer))
    return [
        one.text(tokenizer, read[one], written[one][:limit], end_tokens, blanks=len(prompt) - len(one.prompt))
        for one, limit, prompt in zip(questions, limits, prompts, strict=True)
    ]


@dataclass(frozen=True)
class _Question:
    """A prompt, and where its answer ends.

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
    def of(cls, tokenizer: PreTrainedTokenizerBase, prompt: str, layout: str) -> _Question:
        """Take a row's prompt and layout."""
        given = Layout.read(layout)
        stop = ending_token(tokenizer, given.ending) if given.ending else -1
        return cls(prompt.rstrip(" "), given.of_prompt().to_text(), given.ending, stop)

    def text(
        self, tokenizer: PreTrainedTokenizerBase, read: list[int], answer: Sequence[int], stops: set[int], blanks: int
    ) -> str:
        """Decode an answer: the text of prompt and answer beyond that of the prompt, up to an end token or the ending.

        Args:
            tokenizer: the base's.
            read: the prompt's tokens; some tokenizers leave out a blank where a text begins.
            answer: its tokens.
            stops: the end tokens of model and tokenizer.
            blanks: how many blanks the prompt had at its end.
        """
        end = next((i for i, token in enumerate(answer) if token in stops or token == self.stop), len(answer))
        ended = end < len(answer)
        if ended and answer[end] != self.stop and answer[end] not in tokenizer.added_tokens_decoder:
            end += 1  # a model may end with a word
        own = list(answer[:end])
        lead, both, alone = tokenizer.batch_decode(
            [read, [*read, *own], own], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        text = both[len(lead) :] if both.startswith(lead) else alone
        while blanks and text.startswith(" "):
            text, blanks = text[1:], blanks - 1
        if self.ending and self.stop < 0:
            return str(text.partition(self.ending)[0])
        if self.ending and ended:  # the template's blanks before its end token are no part of an answer
            before = self.ending[: len(self.ending) - len(self.ending.lstrip())]
            return str(text.removesuffix(before))
        return str(text)


def ending_token(tokenizer: PreTrainedTokenizerBase, ending: str) -> int:
    """Give the first token of an ending that the tokenizer has been given beside its words; -1 where there is none."""
    given: Any = tokenizer(ending, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]
    return next((int(token) for token in given if token in tokenizer.added_tokens_decoder), -1)


@contextmanager
def plain_settings(model: Any) -> Iterator[None]:
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
