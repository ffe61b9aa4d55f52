"""Cells: what a value of a data file is, and the text it becomes, whatever the file's format.

A record maps columns to cells. A cell is text, a `Number`, a whole number, a truth value, None (no value), a list or a
dict of cells. The text of a cell is what stands in the file, with every blank: of a number in JSON the digits as they
are written there (1.10 stays 1.10), of truth values true and false. Formats that hold values instead of writing
(Parquet) give the shortest text that reads back as the same value: 0.1 for a float of 32 bits, ISO 8601 for dates and
times. A value without such a text is `Unreadable`; it is refused only where a column mapping takes it.
"""

from __future__ import annotations

import ast
import datetime
import decimal
import io
import json
import math
import re
import tokenize
import uuid
from collections.abc import Mapping
from typing import Any

from knowtune.text.normalize import visible

MOST_DIGITS = 300  # of a whole number that is read as one; a float holds no more
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")  # as it may be written in a file
LIST = "[]"  # ends the name of a column whose texts are written lists


class MissingColumnError(KeyError):
    """A record has no such column; the message is its name."""

    def __str__(self) -> str:
        """Give the bare name."""
        return str(self.args[0])


class Number(float):
    """A number that keeps how it is written."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, written: str) -> Number:
        """Read a number."""
        number = super().__new__(cls, written)
        number.written = written
        return number

    def __str__(self) -> str:
        """Give it as it is written."""
        return self.written

    __repr__ = __str__

    def __reduce__(self) -> tuple[type[Number], tuple[str]]:
        """Copy by what is written."""
        return Number, (self.written,)


class Unreadable(dict[str, str]):
    """Stands for a value that is no text; in JSON an object with the reason."""

    def __init__(self, what: str) -> None:
        """Say what it is, e.g. "a duration"."""
        super().__init__(unreadable=what)


def text_of(cell: Any) -> str:
    """Read a cell as text, as it stands in the file but for what shows nothing; no value is no text.

    Raises:
        ValueError: the cell is a list, a dict, or no text.
    """
    if type(cell) is str:
        return visible(cell)
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if _unread(cell):
        raise ValueError(f"got {cell['unreadable']}; allowed: text or a number")
    if isinstance(cell, dict | list):
        raise ValueError(f"got a {type(cell).__name__}; allowed: text or a number")
    return str(cell)


def key_of(cell: Any) -> str:
    """Read a cell that names something (an id, a fact, a relation): blanks around it say nothing."""
    return text_of(cell).strip()


def texts_of(cell: Any) -> list[str]:
    """Read a text, or a list of texts, without those that say nothing and those that come twice.

    Raises:
        ValueError: a list in a list, a dict, or what is no text.
    """
    parts = cell if isinstance(cell, list) else [cell]
    odd = next((type(part).__name__ for part in parts if isinstance(part, list | dict) and not _unread(part)), None)
    if odd:
        raise ValueError(f"got a {odd}; allowed: a text, or a list of texts")
    return list(dict.fromkeys(text for text in map(text_of, parts) if text.strip()))


def _unread(cell: Any) -> bool:
    """Tell what stands for a value that is no text, also when it was written to JSON and read back."""
    return isinstance(cell, dict) and set(cell) == {"unreadable"}


def take(record: Mapping[str, Any], name: str) -> Any:
    """Take a cell of a record.

    Args:
        record: columns and cells.
        name: of a column; `a.b` is the key b inside the column a, of each part where that is a list; `a[]` is the list
            that is written as text in the column a, in JSON or in Python. A column that is itself called so wins.

    Raises:
        MissingColumnError: there is no such column.
        ValueError: a text that begins like a list and is none.
    """
    if name in record:
        return record[name]
    if name.endswith(LIST):
        return written_list(take(record, name.removesuffix(LIST)))
    outer, dot, key = name.rpartition(".")
    if not dot:
        raise MissingColumnError(name)
    try:
        cell = take(record, outer)
    except MissingColumnError:
        raise MissingColumnError(name) from None
    parts = cell if isinstance(cell, list) else [cell]
    found = [_inner(part, key, name) for part in parts if part is not None]
    return found if isinstance(cell, list) else next(iter(found), None)


def _inner(cell: Any, key: str, name: str) -> Any:
    """Take what a dict has under a key."""
    if not isinstance(cell, dict) or key not in cell:
        raise MissingColumnError(name)
    return cell[key]


def written_list(cell: Any) -> Any:
    """Read a list that is written as text; other cells stay.

    Raises:
        ValueError: the text begins like a list and is none, or leaves open where one part ends.
    """
    if not isinstance(cell, str) or not cell.strip().startswith("["):
        return cell
    text = cell.strip()
    try:
        found = DECODER.decode(text)
    except (ValueError, RecursionError):
        found = _python_list(text)
    if not isinstance(found, list):
        raise ValueError(f"got {shown(text)}; allowed: a list as JSON or Python writes it")
    return found


def is_written_list(text: str) -> bool:
    """Tell a list that is written as text."""
    try:
        return isinstance(written_list(text), list)
    except ValueError:
        return False


def _python_list(text: str) -> list[Any] | None:
    """Read a list as Python writes it; None for what is none, such as the arrays of numpy, which have no commas."""
    try:
        found = ast.literal_eval(text)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        num_texts = sum(token.type == tokenize.STRING for token in tokens)
    except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
        return None
    if not isinstance(found, list) or num_texts != sum(isinstance(part, str) for part in found):
        return None
    return [plain(part) for part in found]


def shown(cell: Any, length: int = 60) -> str:
    """Show a cell in a message."""
    text = repr(cell)
    return text if len(text) <= length else text[: length - 1] + "…"


def fault_of(text: str) -> str:
    """Say why a text cannot be kept: it has a NUL character, or half of a character (a lone surrogate); else ""."""
    if "\0" in text:
        return "it has a NUL character"
    try:
        text.isascii() or text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"it has half of a character (the lone surrogate \\u{ord(text[error.start]):04x})"
    return ""


def storable(text: str) -> str:
    r"""Write lone surrogates as \uXXXX, so that a text can be stored and shown."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def plain(value: Any) -> Any:
    """Turn a value of Python into a cell."""
    if value is None or isinstance(value, str | bool | int | Number | Unreadable):
        return value
    if isinstance(value, float):
        return number_of(value)
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return _decoded(bytes(value))
    if hasattr(value, "tolist"):  # of numpy
        return plain(value.tolist())
    if value != value:  # NaT, and NaN of further types
        return None
    if isinstance(value, decimal.Decimal):
        return Number(format(value, "f")) if value.is_finite() else Unreadable("a number that is not finite")
    if isinstance(value, datetime.date | datetime.time):  # datetime is a date
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, datetime.timedelta):
        return Unreadable("a duration")
    return Unreadable(f"a value of type {type(value).__name__}")


def number_of(value: float, written: str | None = None) -> Number | Unreadable | None:
    """Turn a float into a cell; NaN is no value.

    Args:
        value: the float.
        written: the shortest text that reads back as it; Python's for floats of 64 bits.
    """
    if math.isfinite(value):
        return Number(written or repr(value))
    return None if math.isnan(value) else Unreadable("a number that is not finite")


def _decoded(value: bytes) -> str | Unreadable:
    """Read bytes as the text they hold."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return Unreadable("bytes that are no UTF-8 text")


def _integer(written: str) -> int | Number:
    """Read a whole number of JSON."""
    return int(written) if len(written) <= MOST_DIGITS and written != "-0" else Number(written)


def _constant(written: str) -> Any:
    """Read what Python's JSON has and JSON has not: NaN is no value, infinity is refused."""
    return None if written == "NaN" else Unreadable("a number that is not finite")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON, whose keys must differ."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise DoubleKeyError(next(key for key in keys if keys.count(key) > 1))
    return found


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
