"""Chat messages as data files hold them: lists of `role` and `content`, in the shapes that are in use."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from knowtune.text.normalize import visible

Message = dict[str, Any]
SPEAKERS = {"human": "user", "gpt": "assistant"}  # of lists with `from` and `value`; other names stay as they are


class UnusableError(ValueError):
    """A chat that cannot be learned or asked; the message is the reason."""


def is_chat(value: Any) -> bool:
    """Tell a list of messages from a list of texts."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def read_messages(given: Any) -> list[Message]:
    """Read a list of messages, or that as JSON: each with `role` and `content`, or with `from` and `value`.

    A list of texts is what user and assistant say in turn.

    Raises:
        UnusableError: it is none, or one of them has no role or no text.
    """
    messages = _parse(given, "messages")
    if not isinstance(messages, list) or not messages:
        raise UnusableError("messages: fewer than two")
    if all(isinstance(one, str) for one in messages):
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(messages)]
    return [_message(one) for one in messages]


def read_tools(given: Any) -> list[Any] | None:
    """Read a list of tools, or that as JSON; None where there is none.

    Raises:
        UnusableError: it is no list.
    """
    tools = _parse(given, "tools") or None
    if tools is not None and not isinstance(tools, list):
        raise UnusableError(f"tools: got a {type(tools).__name__}; allowed: a list of tools")
    return tools if tools is None else list(_without_none(tools))


def _parse(value: Any, name: str) -> Any:
    """Read a value that may be written as JSON in a text."""
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise UnusableError(f"{name}: a text that is no JSON; allowed: a list") from None


def _message(given: Any) -> Message:
    """Read one message; what a table fills up with nulls is left out.

    Raises:
        UnusableError: no role, no text, or a part that is no text.
    """
    if not isinstance(given, Mapping):
        raise UnusableError("messages: one without role or text")
    message = dict(given)
    if "role" not in message and isinstance(message.get("from"), str) and "value" in message:
        speaker = message.pop("from")
        message = {**message, "role": SPEAKERS.get(speaker, speaker), "content": message.pop("value")}
    content = message.pop("content", None)
    rest: Message = _without_none(message)
    if not isinstance(rest.get("role"), str):
        raise UnusableError("messages: one without role or text")
    if isinstance(content, list):
        return {**rest, "content": [_part(part) for part in content]}
    if not isinstance(content, str) and not (content is None and rest.get("tool_calls")):
        raise UnusableError("messages: one without role or text")
    return {**rest, "content": content if content is None else visible(content)}


def _part(part: Any) -> dict[str, str]:
    """Read a part of a content."""
    if isinstance(part, str):
        return {"type": "text", "text": visible(part)}
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if not isinstance(part, Mapping) or kind not in ("text", None) or not isinstance(part.get("text"), str):
        raise UnusableError(f"messages: a part of type {kind!r}; only text can be learned")
    return {"type": "text", "text": visible(part["text"])}


def _without_none(value: Any) -> Any:
    """Leave out what is null: tables give every message all the keys that any has."""
    if isinstance(value, Mapping):
        return {name: _without_none(inner) for name, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value


def forms_of(messages: list[Message]) -> Iterator[list[Message]]:
    """Give the forms in which templates take calls of tools: arguments as an object or as JSON, content null or ""."""
    if not any(message.get("tool_calls") for message in messages):
        yield messages
        return
    for forms in ([_with_objects(message) for message in messages], messages):
        yield forms
        yield [{**message, "content": "" if message["content"] is None else message["content"]} for message in forms]


def _with_objects(message: Message) -> Message:
    """Read arguments that are written as JSON."""
    if not isinstance(message.get("tool_calls"), list):
        return message
    return {**message, "tool_calls": [_with_object(call) for call in message["tool_calls"]]}


def _with_object(call: Any) -> Any:
    """Read the arguments of one call."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    read = {**function, "arguments": arguments} if isinstance(arguments, dict) else function
    return {**call, "function": read} if "function" in call else read


def with_calls_of(message: Message, name: str) -> Message:
    """Let a message call a tool of another name."""
    if not isinstance(message.get("tool_calls"), list):
        return message
    calls = [
        {**call, "function": {**call["function"], "name": name}}
        if isinstance(call, dict) and isinstance(call.get("function"), dict)
        else {**call, "name": name}
        if isinstance(call, dict)
        else call
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}
