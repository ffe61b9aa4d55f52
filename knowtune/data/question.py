"""A question that somebody types, as the row that a model was trained on such questions with.

The mapping of the data decides: a chat's question is the user's message, written by the chat template; a template is
filled; a plain column is joined as in training. Where a template needs several columns, the question is a JSON object
of them; that may be given for any mapping, and a list of messages for chats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.data.column_mapping import ColumnMapping
from knowtune.text.cells import text_of
from knowtune.text.layout import Layout
from knowtune.text.messages import UnusableError, is_chat
from knowtune.text.templates import is_template, template_columns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from knowtune.tasks.base import Task

PAIR = " ||| "  # separates a classifier's two texts
PLAIN, PLAIN_PAIR = {"prompt": "prompt", "target": "target"}, {"text": "text", "text_pair": "pair", "label": "label"}


def question_cells(
    question: str,
    columns: Mapping[str, Any] | None,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    trained: str = "",
    *,
    raw: bool = False,
    pair: str = "",
) -> dict[str, str]:
    """Give the cells of a question: prompt, text_pair, layout.

    Args:
        question: as it was typed.
        columns: the mapping that the training rows were read with; None for rows of plain prompts.
        task: of the training.
        tokenizer: the base's.
        trained: the layout of a training row: its ending ends an answer.
        raw: send the text as it is, control tokens and all; of a classifier's two texts both.
        pair: a classifier's second text, where it does not stand in the question.

    Raises:
        UserError: the question is empty, columns are missing, or the task has no second text.
    """
    if not question.strip():
        raise UserError('Q: got nothing; allowed: the start of a sentence, e.g. Q="The capital of Chile is"')
    like = Layout.read(trained)
    mapping = dict(columns or (PLAIN if task.learned == "generalisation" else PLAIN_PAIR))
    heads = "label" in mapping or task.learned != "generalisation"
    if pair and not heads:
        raise UserError(f"text_pair: got {pair!r}; allowed: nothing, for this task reads one text")
    text = question
    if heads and not pair:
        text, _, pair = question.partition(PAIR)
    if raw:
        layout = Layout(markup=((0, len(text)),), start=like.start)
        cells = {"prompt": text, "text_pair": pair, "layout": layout.to_text()}
    else:
        reader = ColumnMapping(mapping, task, tokenizer)
        chats = "messages" in mapping or (not like.start and not heads)
        cells = _chat(reader, question) if chats else _fill(reader, question, text, pair, heads=heads)
    return {**cells, "layout": replace(Layout.read(cells["layout"]), ending=like.ending).to_text()}


def _chat(mapping: ColumnMapping, question: str) -> dict[str, str]:
    """Write a chat."""
    given = _json(question)
    messages, tools = given, None
    if isinstance(given, dict) and "messages" in given:
        messages, tools = given["messages"], given.get("tools")
    if not is_chat(messages):
        messages = [{"role": "user", "content": question}]
    try:
        row = mapping.chats().read_prompt(messages, tools)
    except UnusableError as error:
        raise UserError(f"Q: {error}") from None
    return {"prompt": row.prompt, "text_pair": "", "layout": row.layout.to_text()}


def _fill(mapping: ColumnMapping, question: str, text: str, pair: str, *, heads: bool) -> dict[str, str]:
    """Fill a mapping's columns."""
    keys = ("text", "text_pair") if "text" in mapping.columns else ("prompt",)
    needed = {key: _columns(mapping.columns.get(key)) for key in keys}
    every = list(dict.fromkeys(name for names in needed.values() for name in names))
    given = _json(question)
    if isinstance(given, dict) and set(every) <= set(given):
        record: dict[str, Any] = given
    elif any(len(names) > 1 for names in needed.values()) or len(every) < sum(map(len, needed.values())):
        example = json.dumps(dict.fromkeys(every, "..."), ensure_ascii=False)
        raise UserError(f"Q: the prompt is made of several columns; give them as a JSON object: Q='{example}'")
    else:
        record = {name: given for names, given in zip(needed.values(), (text, pair), strict=False) for name in names}
    try:
        return mapping.read_question(
            {name: text_of(cell) for name, cell in record.items() if name in every}, heads=heads
        )
    except ValueError as error:
        raise UserError(f"Q: {error}") from None


def _columns(template: str | None) -> Sequence[str]:
    """List the columns that a mapping's text needs."""
    if template is None:
        return []
    return list(dict.fromkeys(template_columns(template))) if is_template(template) else [template]


def _json(text: str) -> Any:
    """Read a text that is a JSON object or list; None where it is not."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
