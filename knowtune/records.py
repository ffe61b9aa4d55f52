"""Files of records, one after the other: JSON lines, CSV, Parquet. A broken file is an error with its line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from knowtune.errors import UserError

CHUNK = 20_000  # rows that are in memory as Python objects at a time

Records = Iterator[tuple[int, dict[str, Any]]]


def read_records(path: Path) -> Records:
    """Yield line number (Parquet: row number), counted from 1, and record of a file.

    Raises:
        UserError: no such file, an ending that is not known, not UTF-8, a broken line, or an empty file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check `source` in params.yaml")
    kind = READERS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: got a file ending in {path.suffix!r}; allowed: {', '.join(READERS)}")
    empty = True
    for number, record in kind(path):
        empty = False
        yield number, record
    if empty:
        raise UserError(f"{path}: the file is empty; it needs at least one row")


def _json_lines(path: Path) -> Records:
    """Read one JSON object a line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: line {number}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
            except json.JSONDecodeError as error:
                array = "; one JSON object a line is needed, not one array" if line.lstrip().startswith(b"[") else ""
                raise UserError(f"{path}: line {number}: not JSON ({error.msg}, column {error.colno}){array}") from None
            if not isinstance(record, dict):
                raise UserError(
                    f"{path}: line {number}: got a {type(record).__name__}; allowed: one JSON object a line"
                )
            yield number, record


def _csv(path: Path) -> Records:
    """Read CSV with a head line, all cells as text ("NA" is sodium, not a missing value); .tsv is parted by tabs."""
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            for record in rows:
                if None in record or None in record.values():
                    got = sum(value is not None for key, value in record.items() if key is not None)
                    got += len(record.get(None) or [])  # type: ignore[call-overload]
                    allowed = f"{len(rows.fieldnames or [])}, as the head has"
                    raise UserError(f"{path}: line {rows.line_num}: got {got} cells; allowed: {allowed}")
                yield rows.line_num, record
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}: after line {rows.line_num}: not UTF-8 ({error.reason}); save the file as UTF-8"
            ) from None
        except csv.Error as error:
            raise UserError(f"{path}: line {rows.reader.line_num}: not CSV ({error})") from None


def _parquet(path: Path) -> Records:
    """Read a Parquet file, a batch at a time."""
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=CHUNK):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from None


READERS: dict[str, Callable[[Path], Records]] = {
    ".jsonl": _json_lines,
    ".json": _json_lines,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
