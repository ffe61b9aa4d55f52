"""Chats as the tokenizer's chat template writes them: what is read, what is learned, where control tokens are meant.

The whole chat is rendered, and its beginning up to the assistant's last turn. The first must begin with the second;
what follows is learned: the answer, which is the row's target, and the ending that the template writes after it. The
assistant's earlier turns are learned too. Nothing is trimmed or added but what the template trims and adds, and a start
token is read only where it writes one. A chat that the template cannot write so is refused with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from knowtune.text.layout import Layout, Range
from knowtune.text.messages import Message, UnusableError, forms_of, read_messages, read_tools, with_calls_of
from knowtune.text.stand_ins import PROBE, StandIns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rendered:
    """A chat as a row.

    Args:
        prompt: what the model reads first.
        target: what it answers.
        layout: of the row.
    """

    prompt: str
    target: str
    layout: Layout


class Chat:
    """Writes chats with a tokenizer's template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        """Take the base's tokenizer.

        Raises:
            ValueError: it has no chat template.
        """
        if tokenizer is None or not tokenizer.chat_template:
            raise ValueError("the base's tokenizer has no chat template; take a chat model, or map prompt and target")
        self.tokenizer = tokenizer
        self.stand_ins = StandIns(tokenizer)
        self.control = self.stand_ins.control

    def read(self, messages: Any, tools: Any = None, first: int = 0) -> Rendered:
        """Make a row of a chat that ends with the assistant.

        Args:
            messages: a list of messages with `role` and `content`, or with `from` and `value`; or that as JSON.
            tools: a list of tools that the template writes, or that as JSON; None for none.
            first: of the messages, the first whose turn may be learned.

        Raises:
            UnusableError: why it cannot be learned.
        """
        chat, given = self._prepare(messages, tools)
        if len(chat) < 2:
            raise UnusableError("messages: fewer than two")
        if chat[-1]["role"] != "assistant":
            raise UnusableError(f"messages: the last is by {chat[-1]['role']!r}, not by 'assistant'")
        chat, whole = self._whole(chat, given)
        self._require_whole(chat, given, whole)
        prompt = self._render(chat[:-1], given, ask=True)
        if not whole.startswith(prompt):
            tail = self.stand_ins.plain(_tail(prompt, whole))
            raise UnusableError(
                f"the chat template asks for an answer with {tail!r}, and does not write that before one; what is "
                "learned would not be what is asked"
            )
        lead, target, ending = self._answer(chat, given, prompt, whole[len(prompt) :])
        turns = [
            self._turn(chat, given, prompt, i, ending)
            for i, message in enumerate(chat[:-1])
            if message["role"] == "assistant" and i >= first
        ]
        if lead.strip(" "):  # blanks belong to the answer's first token
            turns.append((len(prompt), len(prompt) + len(lead)))
        return self._row(prompt + lead, target, ending, turns)

    def read_prompt(self, messages: Any, tools: Any = None) -> Rendered:
        """Make the prompt of a chat that does not end with the assistant; no target.

        Raises:
            UnusableError: why it cannot be written.
        """
        chat, given = self._prepare(messages, tools)
        return self._row(self._render(chat, given, ask=True), "", "", [])

    def _prepare(self, messages: Any, tools: Any) -> tuple[list[Message], list[Any] | None]:
        """Read messages and tools, and let private characters stand for control tokens that are written in them."""
        chat = [self._shape(message) for message in read_messages(messages)]
        return self.stand_ins.hide(chat), self.stand_ins.hide(read_tools(tools))

    def _shape(self, message: Message) -> Message:
        """Give a message's content the shape that the template takes: text, or a list of parts."""
        content, (takes_text, takes_parts) = message["content"], self._takes
        if isinstance(content, list) and not takes_parts:
            return {**message, "content": "".join(part["text"] for part in content)}
        if isinstance(content, str) and takes_parts and not takes_text:
            return {**message, "content": [{"type": "text", "text": content}]}
        return message

    @cached_property
    def _takes(self) -> tuple[bool, bool]:
        """Say whether the template writes contents that are text, and lists of parts."""
        takes = []
        for content in (PROBE, [{"type": "text", "text": PROBE}]):
            try:
                shown_as = self._render([{"role": "user", "content": content}], None, ask=True)
            except UnusableError:
                shown_as = ""
            takes.append(PROBE in shown_as and "'type'" not in shown_as)
        return takes[0], takes[1]

    def _whole(self, chat: list[Message], tools: list[Any] | None) -> tuple[list[Message], str]:
        """Render a whole chat, calls of tools in the first form that the template takes."""
        refused = None
        for form in forms_of(chat):
            try:
                return form, self._render(form, tools)
            except UnusableError as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def _require_whole(self, chat: list[Message], tools: list[Any] | None, whole: str) -> None:
        """Refuse a chat of which the template would leave out tools, calls of them, or what a person says."""
        if tools and whole == self._render(chat, None):
            raise UnusableError("the chat template writes no tools; leave them out, or take a model that reads them")
        if any(message.get("tool_calls") for message in chat):
            renamed = [with_calls_of(message, PROBE) for message in chat]
            if PROBE not in self._render(renamed, tools):
                raise UnusableError("the chat template writes no calls of tools; take a model that makes them")
        for message in chat:
            text = message["content"].strip() if isinstance(message["content"], str) else ""
            as_json = json.dumps(text, ensure_ascii=False)[1:-1]
            if message["role"] in ("system", "user") and text not in whole and as_json not in whole:
                raise UnusableError(f"the chat template leaves out what {message['role']!r} says")

    def _answer(self, chat: list[Message], tools: list[Any] | None, prompt: str, rest: str) -> tuple[str, str, str]:
        """Part what follows a prompt into what the template puts before an answer, the answer, and its ending."""
        probed = self._probe(chat, tools, len(chat) - 1)
        lead, _, ending = probed[len(prompt) :].rpartition(PROBE) if probed.startswith(prompt) else ("", "", "")
        if not ending or not rest.endswith(ending):
            controls = re.search(rf"(?:{self.control.pattern})(?:{self.control.pattern}|\s)*$", rest)
            ending = controls[0] if controls else ""
        answer = rest[: len(rest) - len(ending)]
        if not answer.startswith(lead):
            lead = ""
        return lead, answer[len(lead) :], ending

    def _turn(self, chat: list[Message], tools: list[Any] | None, prompt: str, i: int, ending: str) -> Range:
        """Find the assistant's turn `i` in a prompt: from where it would be asked for to its end."""
        before, after = (self._try_render(chat[: i + n], tools, ask=not n) for n in (0, 1))
        start = len(before) if before and prompt.startswith(before) else -1
        if 0 <= start < len(after) and prompt.startswith(after):
            return start, len(after)
        head, probe, tail = self._probe(chat[:-1], tools, i, ask=True).partition(PROBE)
        if not probe or not (prompt.startswith(head) and prompt.endswith(tail) and len(head + tail) <= len(prompt)):
            raise UnusableError(f"the chat template does not write the assistant's turn {i + 1} as it stands")
        closing = re.match(rf"(?:{self.control.pattern})*", tail)
        ended = len(ending) if ending and tail.startswith(ending) else len(closing[0]) if closing else 0
        return (start if 0 <= start <= len(head) else len(head)), len(prompt) - len(tail) + ended

    def _probe(self, chat: list[Message], tools: list[Any] | None, i: int, *, ask: bool = False) -> str:
        """Render a chat with another content for message `i`; "" where the template refuses it."""
        content = [{"type": "text", "text": PROBE}] if isinstance(chat[i]["content"], list) else PROBE
        return self._try_render(
            [*chat[:i], {"role": chat[i]["role"], "content": content}, *chat[i + 1 :]], tools, ask=ask
        )

    def _try_render(self, chat: list[Message], tools: list[Any] | None, *, ask: bool) -> str:
        """Render messages; "" where there are none, or the template refuses them."""
        try:
            return self._render(chat, tools, ask=ask) if chat else ""
        except UnusableError:
            return ""

    def _render(self, chat: list[Message], tools: list[Any] | None, *, ask: bool = False) -> str:
        """Apply the template.

        Raises:
            UnusableError: in the template's own words, whatever went wrong in it.
        """
        try:
            return str(self.tokenizer.apply_chat_template(chat, tools=tools, tokenize=False, add_generation_prompt=ask))
        except Exception as error:  # a template is a program of the checkpoint's, and may fail in any way
            raise UnusableError(f"the chat template refuses the messages: {error}") from None

    def _row(self, prompt: str, target: str, ending: str, turns: Sequence[Range]) -> Rendered:
        """Put texts and ranges together."""
        text, markup, positions = self.stand_ins.restore(prompt)
        answer, meant, _ = self.stand_ins.restore(target)
        layout = Layout(
            ending=self.stand_ins.plain(ending),
            markup=tuple(markup) if self.control.search(text) else (),
            answer=tuple(meant) if self.control.search(target) else (),
            turns=tuple((positions[start], positions[stop]) for start, stop in turns),
            start=False,
        )
        return Rendered(text, answer, layout)


def _tail(prompt: str, whole: str) -> str:
    """Give the part of a prompt in which it goes another way than the whole chat, from the line's start."""
    same = next((i for i, pair in enumerate(zip(prompt, whole, strict=False)) if pair[0] != pair[1]), len(whole))
    return prompt[prompt.rfind("\n", 0, max(same - 1, 0)) + 1 :]
