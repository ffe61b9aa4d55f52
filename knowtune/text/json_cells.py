"""Cells as JSON: numbers keep their digits, an object has each key once, and what is written reads back as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from knowtune.text.cells import Number, Unreadable, fault_of

MOST_DIGITS = 300  # of a whole number that is read as one; a float holds no more


def _integer(written: str) -> int | Number:
    """Read a whole number of JSON."""
    return int(written) if len(written) <= MOST_DIGITS and written != "-0" else Number(written)


def _constant(written: str) -> Any:
    """Read what Python's JSON has and JSON has not: NaN is no value, infinity is refused."""
    return None if written == "NaN" else Unreadable("a number that is not finite")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON, whose keys must differ."""
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise DoubleKeyError(next(key for key in keys if keys.count(key) > 1))
    return record


class DoubleKeyError(ValueError):
    """An object of JSON has a key twice; the message is the key."""


DECODER = json.JSONDecoder(parse_float=Number, parse_int=_integer, parse_constant=_constant, object_pairs_hook=_object)


def to_json(record: Mapping[str, Any]) -> str:
    """Write a record of cells as a line of JSON that reads back as the same texts."""
    line = json.dumps(_writable(record), ensure_ascii=False)
    return json.dumps(_writable(record)) if fault_of(line) else line


def _writable(cell: Any) -> Any:
    """Write as text what a number of JSON would write in other words."""
    if isinstance(cell, Number):
        return cell if float.__repr__(cell) == cell.written else cell.written
    if isinstance(cell, dict):
        return {key: _writable(inner) for key, inner in cell.items()}
    if isinstance(cell, list):
        return [_writable(part) for part in cell]
    return cell
