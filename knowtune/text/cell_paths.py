"""A cell of a record by its path: a column, a key inside it (`a.b`), or the list that its text writes (`a[]`)."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping
from typing import Any

from knowtune.text.cells import plain, preview
from knowtune.text.json_cells import DECODER

LIST = "[]"  # ends the path of a column whose texts are written lists


class MissingColumnError(KeyError):
    """A record has no such column; the message is its name."""

    def __str__(self) -> str:
        """Give the bare name."""
        return str(self.args[0])


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
    inner = [_inner(part, key, name) for part in parts if part is not None]
    return inner if isinstance(cell, list) else next(iter(inner), None)


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
        value = DECODER.decode(text)
    except (ValueError, RecursionError):
        value = _python_list(text)
    if not isinstance(value, list):
        raise ValueError(f"got {preview(text)}; allowed: a list as JSON or Python writes it")
    return value


def is_written_list(text: str) -> bool:
    """Tell a list that is written as text."""
    try:
        return isinstance(written_list(text), list)
    except ValueError:
        return False


def _python_list(text: str) -> list[Any] | None:
    """Read a list as Python writes it; None for what is none, such as the arrays of numpy, which have no commas."""
    try:
        value = ast.literal_eval(text)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        num_texts = sum(token.type == tokenize.STRING for token in tokens)
    except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
        return None
    if not isinstance(value, list) or num_texts != sum(isinstance(part, str) for part in value):
        return None
    return [plain(part) for part in value]
