"""Where rows come from: the authored facts, or files of one's own, as rows of the data contract before any is judged.

What is wrong with a file as a whole (missing, empty, a broken line, a column that is not there, a label that the task
does not have) stops at once, with file and line. What is wrong with one row becomes a reason; `prepare` rejects it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from knowtune.artefacts import text_digest
from knowtune.contract import ROW_COLUMNS
from knowtune.errors import UserError, nearest
from knowtune.facts import read_authored
from knowtune.records import CHUNK, read_records

READ_COLUMNS = [*ROW_COLUMNS, "reason"]


@dataclass(frozen=True)
class Raw:
    """A source as rows.

    Args:
        train: with READ_COLUMNS, as the next three; `reason` is "" where reading found no fault.
        validation: rows for the validation loss.
        test: rows to be judged.
        known: rows that the base knows.
        texts: id, text.
        by_fact: whether rows belong to facts of several wordings, so that what is tested must have been trained.
    """

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    known: pd.DataFrame
    texts: pd.DataFrame
    by_fact: bool


# Turns a record into cells (ROW_COLUMNS without id) and a reason; raises ValueError for what is wrong with the file.
Reader = Callable[[dict[str, Any]], tuple[dict[str, str], str]]


def read_embedded(folder: Path, text: Path, num_train: int, num_validation: int, num_test: int) -> Raw:
    """Read the authored facts and the held-out part of a general text; see `knowtune.facts` for who sees which wording.

    Raises:
        UserError: more wordings are asked for than a relation has besides its facts' own.
    """
    authored = read_authored(folder, text)
    fewest = min(len(templates) for templates in authored.wordings.values())
    if num_train + num_validation + num_test > fewest:
        raise UserError(
            f"params.yaml: source.wordings: got {num_train} + {num_validation} + {num_test}; "
            f"allowed: up to {fewest} in all, the wordings of the relation that has fewest"
        )
    heldout = authored.text[authored.text["split"] == "heldout"]["text"].tolist()
    middle = num_train + num_validation
    parts = [("new", range(num_train)), ("new", range(num_train, middle)), ("new", range(middle, middle + num_test))]
    train, validation, test = (authored.rows(split, offsets).assign(reason="") for split, offsets in parts)
    known = authored.rows("known", range(1)).assign(reason="")
    return Raw(train, validation, test, known, _texts(heldout), by_fact=True)


def read_files(
    data: Path,
    files: Mapping[str, str | list[str] | None],
    reader: Reader,
    columns: Mapping[str, Any],
    text: Path,
    text_column: str,
) -> Raw:
    """Read files with a column mapping.

    Args:
        data: folder of the files.
        files: for train, validation, test and known: a file name, several, or None.
        reader: turns a record into cells; see `knowtune.readers.reader_for`.
        columns: `id` and, where rows belong to facts, `fact`; see `knowtune.readers`.
        text: a file of general text.
        text_column: its column.
    """

    def read(role: str) -> pd.DataFrame:
        names, seen = files.get(role) or [], dict[str, int]()
        paths = [data / name for name in ([names] if isinstance(names, str) else names)]
        tables = [_table(path, reader, columns.get("id"), seen) for path in paths]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=READ_COLUMNS, dtype="str")

    found = [text_of(_column(record, text_column, text, number)) for number, record in read_records(text)]
    return Raw(
        read("train"),
        read("validation"),
        read("test"),
        read("known"),
        _texts(found),
        by_fact=bool(columns.get("fact")),
    )


def _texts(texts: Sequence[str]) -> pd.DataFrame:
    """Number the texts."""
    return pd.DataFrame({"id": [f"text:{i}" for i in range(len(texts))], "text": list(texts)}, dtype="str")


def _table(path: Path, reader: Reader, id_column: str | None, seen: dict[str, int]) -> pd.DataFrame:
    """Read a file into READ_COLUMNS, a chunk at a time, so that only its texts stay in memory.

    A missing id becomes a digest of the row and the number of its occurrence, counted in `seen` over a role's files.
    """
    tables, chunk = [], []
    for number, record in read_records(path):
        try:
            cells, reason = reader(record)
        except MissingColumnError as error:
            raise missing_column(str(error), record, path, number) from None
        except ValueError as error:
            raise UserError(f"{path}: line {number}: {error}") from None
        if id_column:
            row_id = text_of(_column(record, id_column, path, number))
        else:
            digest = text_digest(list(cells.values()))[:16]
            seen[digest] = seen.get(digest, -1) + 1
            row_id = f"{digest}:{seen[digest]}"
        cells["fact"] = cells["fact"] or row_id
        chunk.append((row_id, *(cells[column] for column in ROW_COLUMNS[1:]), reason))
        if len(chunk) == CHUNK:
            tables.append(pd.DataFrame(chunk, columns=READ_COLUMNS, dtype="str"))
            chunk = []
    tables.append(pd.DataFrame(chunk, columns=READ_COLUMNS, dtype="str"))
    return pd.concat(tables, ignore_index=True)


class MissingColumnError(KeyError):
    """A record has no such column; the message is its name."""

    def __str__(self) -> str:
        """Give the bare name."""
        return str(self.args[0])


def missing_column(name: str, record: Mapping[str, Any], path: Path, number: int) -> UserError:
    """Make the error for a column that is not there."""
    hint = nearest(name, record)
    has = ", ".join(map(str, record))
    return UserError(
        f"{path}: line {number}: no column {name!r}; it has {has}" + (f"; did you mean {hint!r}?" if hint else "")
    )


def _column(record: Mapping[str, Any], name: str, path: Path, number: int) -> Any:
    """Take a cell."""
    if name not in record:
        raise missing_column(name, record, path, number)
    return record[name]


def text_of(value: Any) -> str:
    """Read a cell as text; null and NaN are no text."""
    return "" if value is None or value != value else str(value).strip()
