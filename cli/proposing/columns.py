"""The columns of a file as they look: what kind of cells, how many different ones, an example."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knowtune.text.cell_paths import LIST, written_list
from knowtune.text.cells import storable
from knowtune.text.templates import is_template

PLAIN = ("text", "number", "whole number", "truth")  # kinds of which a row has one value


@dataclass(frozen=True)
class Column:
    """A column of the rows that were looked at.

    Args:
        name: as in the file.
        kind: text, number, whole number, truth, list, written list (a text that a program wrote a list into), chat,
            nested or empty.
        cells: one per row; None where a row has none.
        everywhere: whether every row has the column, if only with null.
    """

    name: str
    kind: str
    cells: Sequence[Any]
    everywhere: bool

    @property
    def plain_name(self) -> str:
        """The name without case and signs, to be looked up."""
        return plain(self.name)

    @property
    def filled(self) -> list[str]:
        """What stands in the cells that say something, as text."""
        return [key_of(cell) for cell in self.cells if not is_blank(cell)]

    @property
    def distinct(self) -> int:
        """How many different values there are."""
        return len(set(self.filled))

    @property
    def words(self) -> float:
        """Mean number of words in a filled cell."""
        return sum(len(cell.split()) for cell in self.filled) / max(1, len(self.filled))

    @property
    def example(self) -> str:
        """The first filled cell, shortened."""
        text = storable(" ".join(next(iter(self.filled), "").split()))
        return text if len(text) <= 48 else f"{text[:47]}…"

    @property
    def value(self) -> str:
        """What a mapping names, so that a written list is read as a list."""
        return f"{self.name}{LIST}" if self.kind == "written list" else self.name

    @property
    def unusable(self) -> str:
        """Why a mapping cannot name this column, or ""."""
        if is_template(self.name):
            return "a name with { would be read as a template; rename the column"
        if not self.everywhere:
            return "some rows lack it; give every row the column, null where it has none"
        if self.kind == "nested":
            return _describe_nested(self.cells)
        return "no row has a value" if self.kind == "empty" else ""

    @property
    def in_templates(self) -> bool:
        """Whether a template can name the column between braces."""
        return not re.search(r"[{}\[\].:!]", self.name) and not self.name.isdigit() and self.name != ""


def look(records: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Describe the columns of records, in the order in which they come."""
    names = dict.fromkeys(name for record in records for name in record)
    described = []
    for name in names:
        cells = [record.get(name) for record in records]
        described.append(Column(str(name), _kind(cells), cells, all(name in record for record in records)))
    return described


def plain(name: str) -> str:
    """Write a name in small letters and digits, parted by `_`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def is_blank(cell: Any) -> bool:
    """Tell a cell that says nothing."""
    return cell is None or cell != cell or cell == [] or (isinstance(cell, str) and not cell.strip())


def key_of(cell: Any) -> str:
    """Write a cell as text, equal for equal cells."""
    return cell.strip() if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=str, sort_keys=True)


def _kind(cells: Sequence[Any]) -> str:
    """Say what kind of cells these are; the one that fits all of them."""
    filled = [cell for cell in cells if not is_blank(cell)]
    if not filled:
        return "list" if any(cell == [] for cell in cells) else "empty"
    lists = [cell for cell in filled if isinstance(cell, list)]
    parts = [part for cell in lists for part in cell]
    if parts and len(lists) == len(filled) and all(map(_is_message, parts)):
        return "chat"
    if any(isinstance(cell, dict) for cell in [*filled, *parts]) or any(isinstance(part, list) for part in parts):
        return "nested"
    if lists:
        return "list"
    written = [_written_list(cell) if isinstance(cell, str) else None for cell in filled]
    if all(cell is not None for cell in written):
        inside = [part for cell in written for part in cell or ()]
        return "chat" if inside and all(map(_is_message, inside)) else "written list"
    if all(isinstance(cell, bool) for cell in filled):
        return "truth"
    numbers = [_number(cell) for cell in filled]
    if any(number is None for number in numbers):
        return "text"
    return "whole number" if all(number == int(number) for number in numbers if number is not None) else "number"


def _is_message(part: Any) -> bool:
    """Tell a message of a chat."""
    return isinstance(part, dict) and ({"role", "content"} <= part.keys() or {"from", "value"} <= part.keys())


def _written_list(cell: str) -> list[Any] | None:
    """Read a text that is a list as JSON or Python writes it; None for any other."""
    if not (cell.strip().startswith("[") and cell.strip().endswith("]")):
        return None
    try:
        value = written_list(cell)
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _describe_nested(cells: Sequence[Any]) -> str:
    """Say what is nested, and what to make of it."""
    inner = next((cell[0] if isinstance(cell, list) else cell for cell in cells if isinstance(cell, list | dict)), None)
    keys = list(inner) if isinstance(inner, dict) else []
    what = f"a nested value with {', '.join(map(str, keys))}" if keys else "a nested value"
    return f"{what}; put what is meant into a column of its own: a text, a number or a list of texts"


def _number(cell: Any) -> float | None:
    """Read a finite number, or None."""
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and not isinstance(cell, bool) else None
