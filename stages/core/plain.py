"""What a params file may hold at all: mappings by name, lists, words, numbers and truth values, all of a sane size.

YAML can say more: dates, sets, bytes, numbers without an end, references that unfold to millions of values or to
themselves. Whoever reads the values behind this meets none of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from knowtune.common.errors import Problem
from knowtune.common.secrets import has_secret, mask

MOST_LEVELS = 40
MOST_VALUES = 100_000  # references unfolded
MOST_LETTERS = 100_000  # of one text: a template may hold a long instruction
TOO_DEEP = f"more than {MOST_LEVELS} levels, one in the other"
LARGEST = 2**63 - 1
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
NO_SECRET = "no password or token, for dvc.lock and MLflow keep what stands here; set one by environment, e.g. HF_TOKEN"
ALLOWED = "a text, a number, true, false, null, a list or a mapping; write anything else in quotes"


def load_plain(text: str) -> Any:
    """Read YAML with DVC's parser, if it unfolds to a sane size.

    Raises:
        YAMLError: it is none, or too large; ValueError and others, of ruamel's own code: an odd number or date.
    """
    level = 0
    for event in YAML(typ="safe").parse(text):  # event by event, for what builds the whole crashes on deep nesting
        level += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if level > MOST_LEVELS:
            raise MarkedYAMLError(problem=TOO_DEEP, problem_mark=event.start_mark)
    yaml = YAML(typ="safe")
    yaml.Constructor = _BoundedConstructor
    return yaml.load(text)


class _BoundedConstructor(SafeConstructor):  # type: ignore[misc]
    """Makes values of a document that unfolds to a sane size; merging references would take for ever otherwise."""

    def construct_document(self, node: Node) -> Any:
        """Measure the document, then make its values.

        Raises:
            MarkedYAMLError: too deep, too many values, or a key that is a list or a mapping.
        """
        _measure(node, {})
        return super().construct_document(node)


def _measure(node: Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Count the values below a node and its levels, those behind a reference as often as it is used."""
    if id(node) in known:
        measured = known[id(node)]
        if measured is None:
            raise _fault("a value that holds itself", node)
        return measured
    known[id(node)] = None  # being measured
    inside: list[tuple[int, int]] = [(1, 0)]
    if isinstance(node, SequenceNode):
        inside += [_measure(item, known) for item in node.value]
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, SequenceNode | MappingNode):
                raise _fault("a key that is a list or a mapping; allowed: a name", key)
            inside.append(_measure(value, known))
    size, levels = sum(count for count, _ in inside), 1 + max(below for _, below in inside)
    if size > MOST_VALUES:
        raise _fault(f"more than {MOST_VALUES} values, references unfolded", node)
    if levels > MOST_LEVELS:
        raise _fault(TOO_DEEP, node)
    known[id(node)] = size, levels
    return size, levels


def _fault(problem: str, node: Node) -> MarkedYAMLError:
    """Say what is wrong at a node."""
    return MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def unplain(value: Any, where: str = "") -> Iterator[Problem]:
    """Find what is no plain value: a date, a number without an end, a control character; and what is a secret.

    Args:
        value: as read from YAML.
        where: its key, dotted from the top.
    """
    if type(value) is dict:
        for key, inner in value.items():
            if not isinstance(key, str):
                yield Problem(where or "the top", f"the key {quote(key)}", "names as keys; write it in quotes")
            elif CONTROL.search(key) or len(key) > MOST_LETTERS:
                yield Problem(where or "the top", f"the key {quote(key)}", "names without control characters")
            else:
                yield from unplain(inner, f"{where}.{key}".lstrip("."))
    elif type(value) is list:
        for i, inner in enumerate(value):
            yield from unplain(inner, f"{where}[{i}]")
    elif isinstance(value, str):
        if CONTROL.search(value):
            yield Problem(where, quote(value), "a text without control characters")
        elif len(value) > MOST_LETTERS:
            yield Problem(where, f"a text of {len(value)} characters", f"up to {MOST_LETTERS}")
        elif has_secret(value):
            yield Problem(where, quote(mask(value)), NO_SECRET)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Problem(where, quote(value), "a finite number")
    elif type(value) is int:
        if abs(value) > LARGEST:
            yield Problem(where, f"a whole number of {value.bit_length()} bits", "a number of up to 64 bits")
    elif value is not None and not isinstance(value, bool):
        yield Problem(where, f"{type(value).__name__} {quote(value)}", ALLOWED)


def quote(value: Any, most: int = 200) -> str:
    """Write a value for a message, however long it is."""
    if type(value) is int and abs(value) > LARGEST:
        return f"a whole number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
