"""Tables as text: a head line, then a row of cells a line, parted by comma, semicolon, tab or bar.

Which sign parts the cells is seen from the head, where several fit also from the first rows. A quote begins a quoted
cell, which may hold separators and line breaks. Where every line has as many cells as the head without the help of
quotes, and quotes do not pair up, they are plain characters: each line is a row. No rows are merged without a word.
"""

from __future__ import annotations

import csv
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from knowtune.common.errors import UserError
from knowtune.data.open_text import kind_of, open_text

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLE = 200  # lines that a separator is seen from
WHOLE = re.compile(r'"(?:[^"]|"")*"')  # a cell that is quoted as a whole
TABS = (".tsv", ".tab")
LONGEST_CELL = 100_000_000  # characters

Records = Iterator[tuple[int, dict[str, Any]]]


def delimited_records(path: Path, separator: str | None = None) -> Records:
    """Yield line number and cells, all of them text: "NA" is sodium, not a missing value.

    Args:
        path: of the file.
        separator: of SEPARATORS; None to see it from the file.

    Raises:
        UserError: names of columns that are empty or alike, a row of more or fewer cells, quotes that do not pair up.
    """
    csv.field_size_limit(LONGEST_CELL)
    sign = separator or separator_of(path)
    rows = _plain_rows(path, sign) if _quotes_are_plain(path, sign) else _quoted_rows(path, sign)
    names: list[str] = []
    for number, cells in rows:
        if not names:
            names = cells
            index = names[:1] == [""] and len(names) > 1  # as pandas writes the numbers of rows
            refuse_names(names[1:] if index else names, f"{path}: line {number}")
        elif len(cells) == len(names):
            yield number, dict(zip(names[index:], cells[index:], strict=True))
        elif any(cell.strip() for cell in cells):
            raise UserError(f"{path}: line {number}: got {len(cells)} cells; allowed: {len(names)}, as the head has")


def separator_of(path: Path) -> str:
    """See what parts the cells.

    Raises:
        UserError: several signs fit.
    """
    with open_text(path, newline="") as file:
        lines = list(islice(file, SAMPLE))
    usual = usual_separator(path)
    heads = {sign: len(next(csv.reader(lines, delimiter=sign), [])) for sign in SEPARATORS}
    fitting = [sign for sign, num_names in heads.items() if num_names > 1]
    if "\t" in fitting and usual == "\t":
        return usual
    if len(fitting) > 1:
        fitting = [sign for sign in fitting if _even(lines, sign, heads[sign])] or fitting[:1]
    if len(fitting) > 1:
        names = " or ".join(SEPARATORS[sign] for sign in fitting)
        raise UserError(f"{path}: the cells may be parted by {names}; say which: source.separator, e.g. {fitting[0]!r}")
    return fitting[0] if fitting else usual


def usual_separator(path: Path) -> str:
    """Give what a file's ending says that parts its cells."""
    return "\t" if kind_of(path) in TABS else ","


def _even(lines: Sequence[str], sign: str, num_names: int) -> bool:
    """Tell whether the first rows have as many cells as the head."""
    try:
        rows = list(csv.reader(lines, delimiter=sign))
    except csv.Error:
        return False
    rows = rows[:-1] if len(lines) == SAMPLE else rows  # the last may go on
    return all(len(row) in (0, num_names) for row in rows)


def refuse_names(names: Sequence[str], where: str) -> None:
    """Refuse names of columns that are empty, or equal but for case, blanks and marks.

    Raises:
        UserError: such a name.
    """
    seen: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        key = unicodedata.normalize("NFKC", name).replace("\ufeff", "").strip().casefold()
        if not key:
            raise UserError(f"{where}: the name of column {number} is empty; give every column a name")
        if key in seen:
            like = "twice" if seen[key] == name else f"beside {seen[key]!r}, which differs in blanks or case alone"
            raise UserError(f"{where}: the column {name!r} is given {like}; rename or remove one of the two")
        seen[key] = name


def _quotes_are_plain(path: Path, sign: str) -> bool:
    """Tell whether quotes are characters like others.

    Raises:
        UserError: each line may be a row of its own, or several of them a row with line breaks.
    """
    odd, num_signs = 0, -1
    with open_text(path, newline="") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            num_signs = line.count(sign) if num_signs < 0 else num_signs
            if line.count(sign) != num_signs or num_signs == 0:
                return False
            odd = odd or number * ('"' in line and not _quotes_match(line, sign, num_signs + 1))
    if not odd or sign in "\t|":
        return bool(odd)
    try:
        even = all(len(row) == num_signs + 1 for _, row in _quoted_rows(path, sign) if row)
    except UserError:
        return True
    if even:
        raise UserError(
            f"{path}: line {odd}: a quote begins here and ends on a later line; it is open whether these lines are one "
            "row or several. Double the quotes that are plain characters and put quotes around their cells, or write "
            f"JSON lines; where every line is a row, this does it: `{_command(path, sign)}`"
        )
    return True


def _quotes_match(line: str, sign: str, num_cells: int) -> bool:
    """Tell whether a line is a row by itself, quotes and all."""
    try:
        return [len(row) for row in csv.reader([line], delimiter=sign, strict=True)] == [num_cells]
    except csv.Error:
        return False


def _plain_rows(path: Path, sign: str) -> Iterator[tuple[int, list[str]]]:
    """Read a row a line; only cells that are quoted as a whole lose their quotes."""
    with open_text(path, newline="") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                cells = line.rstrip("\r\n").split(sign)
                yield number, [c[1:-1].replace('""', '"') if WHOLE.fullmatch(c) else c for c in cells]


def _quoted_rows(path: Path, sign: str) -> Iterator[tuple[int, list[str]]]:
    """Read rows that may have quoted cells; say where rows of several lines look like several rows."""
    with open_text(path, newline="") as file:
        lines: list[str] = []

        def kept() -> Iterator[str]:
            for line in file:
                lines.append(line)
                yield line

        rows = csv.reader(kept(), delimiter=sign, strict=True)
        doubtful = []
        try:
            for row in rows:
                if len(lines) > 1 and len(row) > 1 and all(line.count(sign) == len(row) - 1 for line in lines):
                    doubtful.append(rows.line_num)
                lines.clear()
                if row:
                    yield rows.line_num, row
        except csv.Error as error:
            raise UserError(
                f"{path}: line {rows.line_num}: not CSV ({error}); where quotes are plain characters and every "
                f"line is a row, this writes JSON lines: `{_command(path, sign)}`"
            ) from None
    if doubtful:
        print(
            f"{path}: {len(doubtful)} rows go over several lines that look like rows of their own, the first ends at "
            f"line {doubtful[0]}; if a quote is astray there, double it",
            file=sys.stderr,
        )


def _command(path: Path, sign: str) -> str:
    """Give the command that writes JSON lines of a file where quotes are plain characters."""
    new = path.with_name(path.name.removesuffix(path.suffix) + ".jsonl")
    return (
        f"python -c \"import pandas; pandas.read_csv('{path}', sep={sign!r}, quoting=3, dtype=str, "
        f"keep_default_na=False).to_json('{new}', orient='records', lines=True)\""
    )
