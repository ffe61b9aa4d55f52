"""From a record of a file to a row: which column is what, prompt templates, chat messages, labels.

Cells are kept as written. A prompt that is a plain column is joined to its target by `knowtune.text.normalize.joint`; a
template stands for itself, and control tokens in its literal parts are meant as such, those in cells are not.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from knowtune.data.chats import Chat
from knowtune.data.contract import ROW_COLUMNS
from knowtune.data.editing_cases import Cases
from knowtune.data.raw import Reader, Reading
from knowtune.data.rejection import fault_of_answers
from knowtune.text.cell_paths import take
from knowtune.text.cells import text_of
from knowtune.text.layout import PLAIN, Layout, Range
from knowtune.text.messages import UnusableError, is_chat
from knowtune.text.normalize import joint
from knowtune.text.special_tokens import control_pattern
from knowtune.text.templates import is_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from knowtune.tasks.base import Task

EMPTY = dict.fromkeys(ROW_COLUMNS[1:], "")
TOOLS = "tools"  # the column of a chat's tools, where a mapping names no other


def reader_for(columns: Mapping[str, Any], task: Task, tokenizer: PreTrainedTokenizerBase | None) -> Reader:
    """Make the function that reads a record into its rows.

    Args:
        columns: as in params.yaml. With `paraphrases`: whole cases, see `knowtune.data.editing_cases`. With
            `messages`: chats. With `label`: texts with labels or scores. Else `prompt` and `target`: each a column, or
            a template such as "Q: {question} A: ", which stands for itself with every blank. Where a prompt's column
            holds a list of messages, prompt and target together are a chat.
        task: reads targets.
        tokenizer: has the chat template, and the control tokens; None where there are neither.
    """
    if "paraphrases" in columns:
        return Cases(columns, task)
    mapping = ColumnMapping(columns, task, tokenizer)
    if "messages" in columns:
        return lambda record: [mapping.read_chat(record, take(record, columns["messages"]))]
    if "label" in columns:
        return lambda record: [mapping.read_label(record)]
    return lambda record: [mapping.read_prompt(record)]


class ColumnMapping:
    """Reads records by the columns that a mapping names."""

    def __init__(self, columns: Mapping[str, Any], task: Task, tokenizer: PreTrainedTokenizerBase | None) -> None:
        """Take what `reader_for` takes."""
        self.columns = columns
        self.task = task
        self.chats = cache(lambda: Chat(tokenizer))  # made when it is needed: a tokenizer may have no template
        self.control = cache(lambda: control_pattern(tokenizer))

    def read_prompt(self, record: Mapping[str, Any]) -> Reading:
        """Read prompt and answers."""
        columns = self.columns
        source, target = columns["prompt"], columns["target"]
        if not is_template(source) and is_chat(take(record, source)):
            return self._read_completion(record, take(record, source), take(record, target))
        prompt, literal = _fill(source, record)
        layout = PLAIN
        if is_template(target):
            filled, layout = self._target(record)
            answers = self.task.read_target(filled)
        else:
            answers = self._answers(target, record)
        if not is_template(source):
            prompt += joint(prompt, answers[0] if answers else "")
        layout = Layout(ending=layout.ending, answer=layout.answer, markup=self._meant(prompt, literal))
        return self._describe(record, prompt, answers, layout)

    def read_label(self, record: Mapping[str, Any]) -> Reading:
        """Read text, second text and label."""
        columns = self.columns
        pair = _fill(columns["text_pair"], record)[0] if columns.get("text_pair") else ""
        answers = self._answers(columns["label"], record)
        text, literal = _fill(columns["text"], record)
        layout = Layout(markup=self._meant(text, literal)).to_text()
        target = answers[0] if answers else ""
        return Reading({**EMPTY, "prompt": text, "text_pair": pair, "target": target, "layout": layout})

    def read_question(self, record: Mapping[str, Any], *, heads: bool) -> dict[str, str]:
        """Read a question, without an answer: prompt, text_pair and layout.

        Args:
            record: texts by the columns' names, which are taken as they are.
            heads: whether a classifier reads it, to whose text nothing is joined.
        """
        column, other = self.columns["text" if "text" in self.columns else "prompt"], self.columns.get("text_pair")
        text, literal = _fill(column, record)
        layout = Layout(markup=self._meant(text, literal)).to_text()
        text += "" if heads or is_template(column) else joint(text)
        return {"prompt": text, "text_pair": _fill(other, record)[0] if other else "", "layout": layout}

    def read_chat(self, record: Mapping[str, Any], messages: Any, first: int = 0) -> Reading:
        """Read a chat; one that cannot be used is a row with the reason.

        Args:
            record: with what is said about the fact, and tools.
            messages: of the chat.
            first: of the messages, the first whose turn may be learned.
        """
        named = self.columns.get("tools")
        tools = take(record, named) if named else record.get(TOOLS)
        try:
            row = self.chats().read(messages, tools, first)
        except UnusableError as error:
            return self._describe(record, "", [], PLAIN, str(error))
        return self._describe(record, row.prompt, [row.target] if row.target.strip() else [], row.layout)

    def _read_completion(self, record: Mapping[str, Any], prompt: list[Any], target: Any) -> Reading:
        """Read a chat whose end stands in a column of its own, as messages or as a text."""
        end = target if is_chat(target) else [{"role": "assistant", "content": target}]
        if any("role" not in one for one in prompt) and not is_chat(target):
            end = [{"from": "gpt", "value": target}]
        return self.read_chat(record, [*prompt, *end], first=len(prompt))

    def _answers(self, column: str, record: Mapping[str, Any]) -> list[str]:
        """Read what is right."""
        try:
            return self.task.read_target(take(record, column))
        except ValueError as error:
            raise ValueError(f"{column}: {error}") from None

    def _target(self, record: Mapping[str, Any]) -> tuple[str, Layout]:
        """Fill a target's template: from a control token at its literal end on it is the row's ending."""
        filled, literal = _fill(self.columns["target"], record)
        target, ending = filled, ""
        if literal and literal[-1][1] == len(filled):
            last = filled[literal[-1][0] :]
            control = self.control().search(last)
            if control:
                ending = last[len(last[: control.start()].rstrip()) :]
                target = filled[: len(filled) - len(ending)]
        return target, Layout(ending=ending, answer=self._meant(target, literal))

    def _meant(self, text: str, literal: Sequence[Range]) -> tuple[Range, ...]:
        """Give the literal parts of a filled template in which control tokens are meant."""
        return tuple(
            (start, min(stop, len(text))) for start, stop in literal if self.control().search(text[start:stop])
        )

    def _describe(
        self, record: Mapping[str, Any], prompt: str, answers: Sequence[str], layout: Layout, reason: str = ""
    ) -> Reading:
        """Add what is said about the fact."""
        reason = reason or fault_of_answers(answers[1:])
        facts = self.columns.get("fact") or []
        about = {name: self.columns.get(name) for name in ("relation", "subject", "template")}
        named = {name: _key(record, column) for name, column in about.items() if column}
        cells = {
            **EMPTY,
            **named,
            "fact": ":".join(_key(record, name) for name in ([facts] if isinstance(facts, str) else facts)),
            "prompt": prompt,
            "target": answers[0] if answers else "",
            "aliases": "\n".join(answers[1:]),
            "layout": layout.to_text(),
        }
        return Reading(cells, reason)


def _fill(column: str, record: Mapping[str, Any]) -> tuple[str, list[Range]]:
    """Fill a template, or take a column.

    Returns:
        The text, and the ranges of it that are the template's own.
    """
    if not is_template(column):
        return _text(record, column), []
    text, literal = "", list[Range]()
    for own, name, _, _ in string.Formatter().parse(column):
        if own:  # doubled braces end a part: what follows one belongs to it
            start = literal.pop()[0] if literal and literal[-1][1] == len(text) else len(text)
            text += own
            literal.append((start, len(text)))
        text += _text(record, name) if name is not None else ""
    return text, literal


def _text(record: Mapping[str, Any], name: str) -> str:
    """Take a cell as text."""
    try:
        return text_of(take(record, name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _key(record: Mapping[str, Any], name: str) -> str:
    """Take a cell that names something: blanks around it say nothing."""
    return _text(record, name).strip()
