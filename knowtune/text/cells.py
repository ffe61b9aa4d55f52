"""Cells: what a value of a data file is, and the text it becomes, whatever the file's format.

A record maps columns to cells. A cell is text, a `Number`, a whole number, a truth value, None (no value), a list or a
dict of cells. The text of a cell is what stands in the file, with every blank: of a number in JSON the digits as they
are written there (1.10 stays 1.10), of truth values true and false. Formats that hold values instead of writing
(Parquet) give the shortest text that reads back as the same value: 0.1 for a float of 32 bits, ISO 8601 for dates and
times. A value without such a text is `Unreadable`; it is refused only where a column mapping takes it.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
import uuid
from typing import Any

from knowtune.text.normalize import visible

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")  # as it may be written in a file


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
    if _is_unreadable(cell):
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
    odd = next(
        (type(part).__name__ for part in parts if isinstance(part, list | dict) and not _is_unreadable(part)), None
    )
    if odd:
        raise ValueError(f"got a {odd}; allowed: a text, or a list of texts")
    return list(dict.fromkeys(text for text in map(text_of, parts) if text.strip()))


def _is_unreadable(cell: Any) -> bool:
    """Tell what stands for a value that is no text, also when it was written to JSON and read back."""
    return isinstance(cell, dict) and set(cell) == {"unreadable"}


def preview(cell: Any, length: int = 60) -> str:
    """Show a cell in a message, cut to a length."""
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
        return _decode(bytes(value))
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


def _decode(value: bytes) -> str | Unreadable:
    """Read bytes as the text they hold."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return Unreadable("bytes that are no UTF-8 text")
