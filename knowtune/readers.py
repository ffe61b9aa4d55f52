"""From a record of a file to a row: which column is what, prompt templates, chat messages, labels."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from knowtune.cells import take, text_of
from knowtune.contract import ROW_COLUMNS
from knowtune.settings import is_template
from knowtune.sources import Reader, Reading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from knowtune.families import Task

EMPTY = dict.fromkeys(ROW_COLUMNS[1:], "")


def reader_for(columns: Mapping[str, Any], task: Task, tokenizer: PreTrainedTokenizerBase) -> Reader:
    """Make the function that reads a record into its rows.

    Args:
        columns: as in params.yaml. With `messages`: chats. With `label`: texts with labels or scores. Else `prompt` and
            `target`: each a column, or a template such as "Q: {question} A: ", which stands for itself with every
            blank. A plain prompt column gets one blank at its end, for the target to follow, unless one of
            them has white space there.
        task: reads targets.
        tokenizer: has the chat template.
    """
    if "messages" in columns:
        chat = Chat(tokenizer)
        return lambda record: [_described(record, columns, *chat.read(take(record, columns["messages"])))]
    if "label" in columns:
        return lambda record: [_labelled(record, columns, task)]
    return lambda record: [_prompted(record, columns, task)]


def _prompted(record: Mapping[str, Any], columns: Mapping[str, Any], task: Task) -> Reading:
    """Read prompt and answers."""
    prompt = _filled(columns["prompt"], record)
    answers = _answers(record, columns["target"], task)
    parted = prompt[-1:].isspace() or any(answer[:1].isspace() for answer in answers[:1])
    if prompt and not parted and not is_template(columns["prompt"]):
        prompt += " "
    return _described(record, columns, prompt, answers, "")


def _labelled(record: Mapping[str, Any], columns: Mapping[str, Any], task: Task) -> Reading:
    """Read text, second text and label."""
    pair = _filled(columns["text_pair"], record) if columns.get("text_pair") else ""
    answers = _answers(record, columns["label"], task)
    cells = {**EMPTY, "prompt": _filled(columns["text"], record), "text_pair": pair}
    return Reading({**cells, "target": answers[0] if answers else ""})


def _answers(record: Mapping[str, Any], column: str, task: Task) -> list[str]:
    """Read what is right."""
    if is_template(column):
        return task.read_target(_filled(column, record))
    try:
        return task.read_target(take(record, column))
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


def _described(
    record: Mapping[str, Any], columns: Mapping[str, Any], prompt: str, answers: Sequence[str], reason: str
) -> Reading:
    """Add what is said about the fact."""
    if any("\n" in alias for alias in answers[1:]):
        reason = reason or "a further right answer has a line break"
    facts = columns.get("fact") or []
    named = {name: _key(record, columns[name]) for name in ("relation", "subject", "wording") if columns.get(name)}
    fact = ":".join(_key(record, name) for name in ([facts] if isinstance(facts, str) else facts))
    further = "\n".join(answers[1:])
    target = answers[0] if answers else ""
    cells = {**EMPTY, **named, "fact": fact, "prompt": prompt, "target": target, "aliases": further}
    return Reading(cells, reason)


class Chat:
    """Chats to rows: the last message is the target, those before it the prompt, by the tokenizer's template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the base's tokenizer."""
        self.tokenizer = tokenizer

    def read(self, messages: Any) -> tuple[str, list[str], str]:
        """Give prompt, answers and the reason why the row cannot be used, or "".

        Raises:
            ValueError: the tokenizer has no chat template.
        """
        from jinja2 import TemplateError

        if not self.tokenizer.chat_template:
            raise ValueError("the base's tokenizer has no chat template; take a chat model, or map prompt and target")
        fault = _chat_fault(messages)
        if fault:
            return "", [], fault
        try:
            shown: Any = self.tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            return "", [], f"the chat template refuses the messages: {error}"
        start = str(self.tokenizer.bos_token or "")
        return str(shown).removeprefix(start), [messages[-1]["content"].strip()], ""  # rows get their start token later


def _chat_fault(messages: Any) -> str:
    """Say what keeps a list of messages from being prompt and answer."""
    if not isinstance(messages, list) or len(messages) < 2:
        return "messages: fewer than two"
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str) or "role" not in message:
            return "messages: one without role or text"
    if messages[-1]["role"] != "assistant":
        return f"messages: the last is by {messages[-1]['role']!r}, not by 'assistant'"
    return ""


def _filled(column: str, record: Mapping[str, Any]) -> str:
    """Fill a template, or take a column."""
    if not is_template(column):
        return _text(record, column)
    parts = string.Formatter().parse(column)
    return "".join(text + (_text(record, name) if name is not None else "") for text, name, _, _ in parts)


def _text(record: Mapping[str, Any], name: str) -> str:
    """Take a cell as text."""
    try:
        return text_of(take(record, name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _key(record: Mapping[str, Any], name: str) -> str:
    """Take a cell that names something."""
    return _text(record, name).strip()
