"""Records of JSON: one object a line, or one array of objects, which is read piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from knowtune.common.errors import UserError
from knowtune.data.open_text import not_utf8, open_bytes, open_text
from knowtune.text.json_cells import DECODER, DoubleKeyError

PIECE = 1 << 16  # characters of an array that are read at a time
NEAR_END = 12  # characters from the end of a piece where what is broken may only be cut
SPACE = re.compile(r"[ \t\n\r]*")

Records = Iterator[tuple[int, dict[str, Any]]]


def json_records(path: Path) -> Records:
    """Yield line number and object.

    Raises:
        UserError: a line or an array that is not JSON, not of objects, or has a key twice.
    """
    with open_bytes(path) as file:
        start = file.tell()
        while (sign := file.read(1)).isspace():
            pass
        if sign != b"[":
            file.seek(start)
            yield from _lines(path, file, start)
            return
    with open_text(path) as text:
        yield from _Array(path, text).records()


def _lines(path: Path, file: IO[bytes], offset: int) -> Records:
    """Read one object a line."""
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                record = DECODER.decode(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise not_utf8(path, number, offset, error) from None
            except (ValueError, RecursionError) as error:
                hint = ""
                if isinstance(error, json.JSONDecodeError) and line.lstrip().startswith(b"{"):
                    hint = _one_object(path) if number == 1 else _cut_short(line)
                raise UserError(f"{path}: line {number}: {_fault(error)}{hint}") from None
            if not isinstance(record, dict):
                raise UserError(f"{path}: line {number}: got {_kind(record)}; allowed: one JSON object a line")
            yield number, record
        offset += len(line)


class _Array:
    """One array of objects; of its text, only the piece around the object that is read stays in memory."""

    def __init__(self, path: Path, text: IO[str]) -> None:
        """Begin before the first piece."""
        self.path, self.text = path, text
        self.piece, self.position, self.line = "", 0, 1

    def records(self) -> Records:
        """Yield line number and object."""
        self._step()  # past the bracket, which the caller saw
        sign = self._sign()
        while sign != "]":
            if sign != "{":
                self._fail("the array is cut short" if not sign else "got no object; allowed: an array of objects")
            number = self.line
            record, end = self._object()
            yield number, record
            self._move(end)
            sign = self._sign()
            if sign == ",":
                self._step()
                sign = self._sign()
            elif sign != "]":
                self._fail("not JSON (expected , or ] after an object)" if sign else "the array is cut short")
        self._step()
        if self._sign():
            self._fail("something stands after the array")

    def _sign(self) -> str:
        """Move to the next character that is no white space, and give it; "" at the end."""
        while True:
            space = SPACE.match(self.piece, self.position)
            self._move(space.end() if space else self.position)
            if self.position < len(self.piece) or not self._more():
                return self.piece[self.position : self.position + 1]

    def _step(self) -> None:
        """Move past the next character."""
        if self._sign():
            self.position += 1

    def _move(self, position: int) -> None:
        """Move on, and count lines."""
        self.line += self.piece.count("\n", self.position, position)
        self.position = position

    def _more(self) -> bool:
        """Read on; each piece is as long as what is not yet understood, so that long objects take linear time."""
        rest = self.piece[self.position :]
        added = self.text.read(max(PIECE, len(rest)))
        self.piece, self.position = rest + added, 0
        return bool(added)

    def _object(self) -> tuple[dict[str, Any], int]:
        """Decode the object at this position, and give where it ends."""
        while True:
            try:
                decoded: tuple[dict[str, Any], int] = DECODER.raw_decode(self.piece, self.position)
                return decoded
            except json.JSONDecodeError as error:
                end, offset = len(self.piece.rstrip()), error.pos - self.position
                cut = error.msg.startswith("Unterminated") or error.pos >= end
                if not ((cut or error.pos >= end - NEAR_END) and self._more()):
                    self.line += self.piece.count("\n", self.position, self.position + offset)
                    self._fail(f"not JSON ({error.msg})" + ("; the file is cut short" if cut else ""))
            except (DoubleKeyError, RecursionError) as error:
                self._fail(_fault(error))

    def _fail(self, what: str) -> None:
        """Raise the error for this line."""
        raise UserError(f"{self.path}: line {self.line}: {what}")


def _fault(error: Exception) -> str:
    """Say what is wrong with JSON."""
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg}, column {error.colno})"
    if isinstance(error, DoubleKeyError):
        return f"the key {str(error)!r} is given twice"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return f"not JSON ({error})"


def _one_object(path: Path) -> str:
    """Give the way out for one object over many lines."""
    command = f"import json; [print(json.dumps(row)) for row in json.load(open('{path}'))['KEY']]"
    return (
        "; one JSON object a line, or one array of objects, is needed. Where the file is one object with the rows "
        f'under a key, this writes them: `python -c "{command}" > rows.jsonl`'
    )


def _cut_short(line: bytes) -> str:
    """Say where the last line may be cut."""
    return "" if line.endswith(b"\n") else "; the last line seems cut short"


def _kind(value: Any) -> str:
    """Name a kind of JSON."""
    names = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
