"""Find single rows in files of JSON lines without reading the others: bytes are searched, and only hits are parsed.

A file of 100,000 rows is searched in milliseconds; parsed, it takes a second.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def rows_where(path: Path, column: str, value: str) -> Iterator[Row]:
    """Yield the rows whose column holds exactly this text."""
    for row in _hits(path, (f'"{column}":{form}'.encode() for form in _written(value)), 0):
        if row.get(column) == value:
            yield row


def rows_with(path: Path, text: str) -> Iterator[Row]:
    """Yield the rows of which some cell contains a text, in any case of letters."""
    wanted = text.casefold()
    for row in _hits(path, (form[1:-1].encode() for form in _written(text)), re.IGNORECASE):
        if any(isinstance(cell, str) and wanted in cell.casefold() for cell in row.values()):
            yield row


def _written(text: str) -> list[str]:
    """Write a text as JSON does: pandas puts a backslash before a slash, others do not."""
    plain = json.dumps(text, ensure_ascii=False)
    return list(dict.fromkeys((plain.replace("/", "\\/"), plain)))


def _hits(path: Path, needles: Iterator[bytes], flags: int) -> Iterator[Row]:
    """Parse the lines in which one of some byte strings stands; a damaged line says nothing."""
    if path.stat().st_size == 0:
        return
    pattern = re.compile(b"|".join(map(re.escape, needles)), flags)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = 0
        while hit := pattern.search(content, at):
            start, end = content.rfind(b"\n", 0, hit.start()) + 1, content.find(b"\n", hit.end())
            at = len(content) if end < 0 else end + 1
            try:
                row = json.loads(content[start:at])
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row
