"""Where rows come from: the authored facts, or files of one's own, as rows of the data contract before any is judged.

What is wrong with a file as a whole (missing, empty, a broken line, a column that is not there, a label that the task
does not have) stops at once, with file and line. What is wrong with one row becomes a reason; `prepare` rejects it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from knowtune.common.errors import UserError, nearest, shorten
from knowtune.common.files import text_digest
from knowtune.data.authored import read_authored
from knowtune.data.contract import ROLES, ROW_COLUMNS
from knowtune.data.delimited import SEPARATORS, separator_of, usual_separator
from knowtune.data.open_text import kind_of
from knowtune.data.raw import READ_COLUMNS, Raw, Reader, Reading, texts_table
from knowtune.data.records import CHUNK, DELIMITED, Records, read_records
from knowtune.data.rejection import fault_of_cells
from knowtune.text.cell_paths import LIST, MissingColumnError, is_written_list, take
from knowtune.text.cells import key_of, preview, storable, text_of
from knowtune.text.templates import is_template

SELDOM = ("layout", "old")  # columns that most rows have nothing in, and that are no part of these rows' ids then


def read_embedded(folder: Path, text: Path, num_train: int, num_validation: int, num_test: int) -> Raw:
    """Read the authored facts and the held-out part of a general text; see `knowtune.data.authored`.

    Text that may be replayed is taken from the other part, which the base was built from: what is held out measures.

    Raises:
        UserError: more templates are wanted than a relation has.
    """
    authored = read_authored(folder, text)
    fewest = min(len(templates) for templates in authored.templates.values())
    if num_train + num_validation + num_test > fewest:
        raise UserError(
            f"params.yaml: source.templates: got {num_train} + {num_validation} + {num_test}; "
            f"allowed: up to {fewest} in all, the templates of the relation that has fewest"
        )
    of_split = {split: rows["text"].tolist() for split, rows in authored.text.groupby("split")}
    texts, spare = texts_table(of_split.get("heldout", [])), texts_table(of_split.get("train", []), "replay")
    middle = num_train + num_validation
    parts = [("new", range(num_train)), ("new", range(num_train, middle)), ("new", range(middle, middle + num_test))]
    train, validation, test = (authored.rows(split, offsets).assign(reason="") for split, offsets in parts)
    known = authored.rows("known", range(1)).assign(reason="")
    none = known.head(0)
    return Raw(train, validation, test, known, none, texts, texts_table([]), by_fact=True, spare_texts=spare)


def read_files(
    data: Path,
    files: Mapping[str, str | list[str] | None],
    reader: Reader,
    columns: Mapping[str, Any],
    text: Path,
    text_column: str,
    separator: str | None = None,
    replay_text: Path | None = None,
) -> Raw:
    """Read files with a column mapping.

    Args:
        data: folder of the files.
        files: for train, validation, test, known and replay: a file name, several, or None.
        reader: turns a record into rows; see `knowtune.data.column_mapping.reader_for`.
        columns: `id` and, where rows belong to facts, `fact`; see `knowtune.data.column_mapping`.
        text: a file of general text.
        text_column: its column.
        separator: what parts the cells of tables that are text; None: as each file shows, which is said where it is
            another than its ending says.
        replay_text: a file of general text that may be replayed; None, or `text` itself: there is no other.

    Raises:
        UserError: of a file, see `read_records`; of a column, that it is not there; of a target column, that nearly all
            of its cells are lists written as text, and the mapping does not say what they are.
    """
    tables: dict[str, list[pd.DataFrame]] = {role: [] for role in ROLES}
    seen: dict[tuple[str, str], int] = {}
    for role in ROLES:
        names = files.get(role) or []
        for name in [names] if isinstance(names, str) else names:
            records = _read_watchfully(data / name, separator, columns.get("target"))
            for of_role, table in _tables(data / name, records, reader, columns.get("id"), role, seen):
                tables[of_role].append(table)
    empty = pd.DataFrame(columns=READ_COLUMNS, dtype="str")
    rows = {role: pd.concat(parts, ignore_index=True) if parts else empty for role, parts in tables.items()}
    by_fact = bool(columns.get("fact")) or "paraphrases" in columns  # a case is a fact of several paraphrases
    texts = texts_table(read_texts(text, text_column, separator))
    apart = replay_text is not None and not (text.exists() and replay_text.exists() and text.samefile(replay_text))
    spare = read_texts(replay_text, text_column, separator) if replay_text is not None and apart else []
    return Raw(**rows, texts=texts, replay_texts=texts_table(spare, "replay"), by_fact=by_fact)


def _read_watchfully(path: Path, separator: str | None, target: str | None) -> Records:
    """Read a file; say what parts its cells where that is not what its ending says, and refuse lists written as text.

    Raises:
        UserError: nearly all targets are lists written as text, and the mapping does not say what they are.
    """
    sign = announce_separator(path, separator)
    named = target if target and not is_template(target) and not target.endswith(LIST) else None
    num_rows, num_lists, example = 0, 0, ""
    for number, record in read_records(path, sign):
        cell = record.get(named) if named else None
        if isinstance(cell, str) and cell[:1] == "[" and is_written_list(cell):
            num_lists, example = num_lists + 1, example or cell
        num_rows += 1
        yield number, record
    if num_lists > 0.9 * num_rows:
        raise UserError(
            f"{path}: {num_lists} of {num_rows} cells of {named!r} are lists written as text, e.g. {preview(example)}. "
            f'In source.columns, `target: "{named}{LIST}"` reads them as lists of right answers, and '
            f'`target: "{{{named}}}"` learns the texts as they stand'
        )


def announce_separator(path: Path, separator: str | None) -> str | None:
    """Tell what parts the cells of a file, and print it where that was seen and is not what its ending says."""
    if separator or kind_of(path) not in DELIMITED or not path.is_file():
        return separator
    sign = separator_of(path)
    if sign != usual_separator(path):
        print(f"{path}: cells are parted by {SEPARATORS[sign]}; if not, say by what: source.separator")
    return sign


def read_table(path: Path, reader: Reader, columns: Mapping[str, Any], role: str) -> pd.DataFrame:
    """Read one file with a column mapping.

    Args:
        path: the file.
        reader: turns a record into rows; see `knowtune.data.column_mapping.reader_for`.
        columns: the mapping, for `id` and `target`.
        role: what the rows are for, in messages.

    Returns:
        With READ_COLUMNS.

    Raises:
        UserError: as `read_files` does.
    """
    records = _read_watchfully(path, None, columns.get("target"))
    parts = [table for _, table in _tables(path, records, reader, columns.get("id"), role, {})]
    return pd.concat(parts, ignore_index=True)


def read_texts(path: Path, column: str, separator: str | None = None) -> Iterator[str]:
    """Read a column of texts."""
    for number, record in read_records(path, announce_separator(path, separator)):
        try:
            yield text_of(take(record, column))
        except MissingColumnError as error:
            raise missing_column(str(error), record, path, number) from None
        except ValueError as error:
            raise UserError(f"{path}: line {number}: {column}: {error}") from None


def _tables(
    path: Path, records: Records, reader: Reader, id_column: str | None, role: str, seen: dict[tuple[str, str], int]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Read a file into READ_COLUMNS, a chunk of a role at a time, so that only its texts stay in memory.

    A missing id becomes a digest of the row and the number of its occurrence, counted in `seen` over a role's files.
    """
    chunks: dict[str, list[tuple[str, ...]]] = {}
    for number, record in records:
        try:
            readings = reader(record)
        except MissingColumnError as error:
            raise missing_column(str(error), record, path, number) from None
        except ValueError as error:
            raise UserError(f"{path}: line {number}: {error}") from None
        given = storable(_id(record, id_column, path, number)) if id_column else ""
        for reading in readings:
            cells, reason = _storable(reading)
            of_role = reading.role or role
            if id_column:
                row_id = f"{given}:{reading.part}" if reading.part else given
            else:
                digest = text_digest([text for name, text in cells.items() if text or name not in SELDOM])[:16]
                seen[of_role, digest] = seen.get((of_role, digest), -1) + 1
                row_id = f"{digest}:{seen[of_role, digest]}"
            rest = (cells[column] for column in ROW_COLUMNS[2:])
            chunk = chunks.setdefault(of_role, [])
            chunk.append((row_id, cells["fact"] or row_id, *rest, reason))
            if len(chunk) == CHUNK:
                yield of_role, pd.DataFrame(chunks.pop(of_role), columns=READ_COLUMNS, dtype="str")
    for of_role, chunk in chunks.items():
        yield of_role, pd.DataFrame(chunk, columns=READ_COLUMNS, dtype="str")


def _storable(reading: Reading) -> tuple[dict[str, str], str]:
    """Give cells that can be stored, and why the row cannot be used, or ""."""
    fault = fault_of_cells(reading.cells)
    if not fault:
        return reading.cells, reading.reason
    return {column: storable(cell) for column, cell in reading.cells.items()}, reading.reason or fault


def _id(record: Mapping[str, Any], column: str, path: Path, number: int) -> str:
    """Take the id of a record.

    Raises:
        UserError: it is empty, or no text.
    """
    try:
        row_id = key_of(take(record, column))
    except MissingColumnError as error:
        raise missing_column(str(error), record, path, number) from None
    except ValueError as error:
        raise UserError(f"{path}: line {number}: {column}: {error}") from None
    if not row_id:
        raise UserError(f"{path}: line {number}: {column}: the id is empty; give every row one, or `id: null`")
    return row_id


def missing_column(name: str, record: Mapping[str, Any], path: Path, number: int) -> UserError:
    """Make the error for a column that is not there."""
    hint = nearest(name, record)
    has = shorten(", ".join(map(str, record)))
    return UserError(
        f"{path}: line {number}: no column {name!r}; it has {has}" + (f"; did you mean {hint!r}?" if hint else "")
    )
