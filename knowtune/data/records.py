"""Files of records, one after the other: JSON, CSV, Parquet. A broken file is an error with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from knowtune.common.errors import UserError
from knowtune.data.delimited import delimited_records
from knowtune.data.json_records import json_records
from knowtune.data.open_text import COMPRESSED, kind_of
from knowtune.data.parquet_records import parquet_records

CHUNK = 20_000  # rows that are in memory as Python objects at a time

Records = Iterator[tuple[int, dict[str, Any]]]


def read_records(path: Path, separator: str | None = None) -> Records:
    """Yield line number (Parquet: row number), counted from 1, and record of a file.

    Args:
        path: of the file; its ending says what it is, also before .gz, .bz2 or .xz.
        separator: what parts the cells of a table that is text; None to see it from the file.

    Raises:
        UserError: no such file, an ending that is not known, not UTF-8, a broken line, or an empty file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check `source` in params.yaml")
    kind = kind_of(path)
    reader = READERS.get(kind)
    if reader is None or (kind in PARQUET and path.suffix.lower() in COMPRESSED):
        raise UserError(f"{path}: got a file ending in {path.suffix!r}; {_way_out(path)}")
    empty = True
    for number, record in delimited_records(path, separator) if kind in DELIMITED else reader(path):
        empty = False
        yield number, record
    if empty:
        raise UserError(f"{path}: the file is empty; it needs at least one row")


PARQUET = (".parquet", ".pq")
DELIMITED = (".csv", ".tsv", ".tab")
READERS: dict[str, Callable[[Path], Records]] = {
    **dict.fromkeys((".jsonl", ".json", ".ndjson"), json_records),
    **dict.fromkeys(DELIMITED, delimited_records),
    **dict.fromkeys(PARQUET, parquet_records),
}
ALLOWED = f"{', '.join(READERS)}; all but Parquet also with {', '.join(COMPRESSED)} after it"
WAYS_OUT = {  # ending -> command; {path}, {stem}: the file with and without its ending
    ".txt": "python -c \"import json; [print(json.dumps({{'text': line.rstrip('\\n')}})) "
    "for line in open('{path}', encoding='utf-8') if line.strip()]\" > {stem}.jsonl",
    ".arrow": "python -c \"from datasets import Dataset; Dataset.from_file('{path}').to_parquet('{stem}.parquet')\"",
    ".feather": "python -c \"import pyarrow.feather as f, pyarrow.parquet as p; p.write_table(f.read_table('{path}'), "
    "'{stem}.parquet')\"",
    ".orc": "python -c \"import pyarrow.orc as o, pyarrow.parquet as p; p.write_table(o.read_table('{path}'), "
    "'{stem}.parquet')\"",
    ".zip": "unzip {path}",
    ".tar": "tar -xf {path}",
    ".tgz": "tar -xf {path}",
    ".zst": "zstd -d {path}",
    ".lz4": "lz4 -d {path}",
    ".7z": "7z x {path}",
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "libreoffice --headless --convert-to csv {path}"),
    **dict.fromkeys((".yaml", ".yml"), "python -c \"import json; from ruamel.yaml import YAML; [print(json.dumps(row)) "
    "for row in YAML(typ='safe').load(open('{path}'))]\" > {stem}.jsonl"),
    **dict.fromkeys(PARQUET, "gzip -d {path}"),
}  # fmt: skip


def _way_out(path: Path) -> str:
    """Give the command that converts a file, and what may be given."""
    with path.open("rb") as file:
        kind = ".feather" if file.read(6) == b"ARROW1" else kind_of(path)  # .arrow: a file, or a stream of `datasets`
    command = WAYS_OUT.get(kind or path.suffix.lower()) or WAYS_OUT.get(path.suffix.lower())
    convert = f"`{command.format(path=path, stem=path.with_suffix(''))}` converts it; " if command else ""
    return f"{convert}allowed: {ALLOWED}"
