"""Files that are equal when their content is equal: canonical JSON, row files, digests, whole-or-nothing writes.

No clock, host, commit or absolute path belongs in what is written here, for DVC compares bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import torch

CHUNK = 50_000  # rows that are written at a time
BLOCK = 2**24  # bytes that are read at a time; more than any row that fits into a model's context


def write_json(path: Path, value: Any) -> None:
    """Write `value` as canonical JSON: sorted keys, two blanks of indent, a final newline; NaN is refused."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def parse_json(path: Path) -> Any:
    """Read a JSON file that a person may have written; ValueError and RecursionError are the caller's to explain."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_json(path: Path) -> Any:
    """Read a JSON file that a stage wrote.

    Raises:
        UserError: it is no JSON (cut short, say).
    """
    try:
        return parse_json(path)
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"no JSON ({error})", "") from None


def read_card(path: Path, shape: Mapping[str, type | UnionType], stage: str = "") -> dict[str, Any]:
    """Read a JSON object that a stage wrote.

    Args:
        path: the file.
        shape: keys that it must have, with the types of their values.
        stage: which stage writes it; "" where several do.

    Raises:
        UserError: the file is missing, no JSON (cut short, say), or of another shape; says which stage to run again.
    """
    try:
        card = parse_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(
            path, "missing" if isinstance(error, FileNotFoundError) else f"no JSON ({error})", stage
        ) from None
    if not isinstance(card, dict):
        raise _unusable(path, "no JSON object", stage)
    odd = [key for key, kind in shape.items() if key not in card or not isinstance(card[key], kind)]
    if odd:
        raise _unusable(path, f"of another shape, see {', '.join(odd)}", stage)
    return card


def read_tensors(path: Path, keys: Iterable[str] = (), stage: str = "") -> dict[str, torch.Tensor]:
    """Read safetensors that a stage wrote.

    Args:
        path: the file.
        keys: tensors that it must have.
        stage: which stage writes it; "" where several do.

    Raises:
        UserError: the file is missing, damaged, or without one of the tensors; says which stage to run again.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unusable(
            path, "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error})", stage
        ) from None
    lacking = [key for key in keys if key not in tensors]
    if lacking:
        raise _unusable(path, f"of another shape, no {', '.join(lacking)} in it", stage)
    return tensors


def _unusable(path: Path, what: str, stage: str) -> UserError:
    """Make the error of a file that a stage wrote and that cannot be used."""
    return UserError(f"{path}: {what}; run the {stage + ' stage' if stage else 'stage that wrote it'} again")


@contextmanager
def row_writer(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Give what appends tables to a file of JSON lines, one object a row; it is there when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part, part.open("w", encoding="utf-8") as file:

        def write(rows: pd.DataFrame) -> None:
            for start in range(0, len(rows), CHUNK):  # pandas holds the whole text of what it writes in memory
                chunk = rows.iloc[start : start + CHUNK]
                chunk.to_json(file, orient="records", lines=True, force_ascii=False, double_precision=15)

        yield write


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """Write a table as JSON lines, one object a row, columns in the table's order."""
    with row_writer(path) as write:
        write(rows)


def read_rows(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read JSON lines written by `write_rows`; text stays text ("01" is not a number).

    Args:
        path: the file.
        columns: the columns that an empty file is to have.

    Raises:
        UserError: the file is missing, or no JSON lines (cut short, say).
    """
    import pandas as pd

    try:
        if path.stat().st_size == 0:
            return pd.DataFrame({column: pd.Series(dtype="str") for column in columns or ["id"]})
        return pd.read_json(path, orient="records", lines=True, dtype=False, precise_float=True)
    except (OSError, ValueError, AttributeError) as error:  # AttributeError: lines that hold no objects
        what = "missing" if isinstance(error, FileNotFoundError) else f"not readable ({error})"
        raise _unusable(path, what, "") from None


def count_rows(path: Path) -> int:
    """Count the lines of a file of JSON lines."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))


def read_parts(path: Path, size: int) -> Iterator[pd.DataFrame]:
    """Read JSON lines as `read_rows` does, `size` rows at a time, each part on an index from 0; no more is held."""
    import pandas as pd

    if path.stat().st_size:
        options: Any = {"orient": "records", "lines": True, "dtype": False, "precise_float": True}
        try:
            with pd.read_json(path, chunksize=size, **options) as parts:
                for part in parts:
                    yield part.reset_index(drop=True)
        except (ValueError, AttributeError) as error:  # AttributeError: lines that hold no objects
            raise _unusable(path, f"not readable ({error})", "") from None


def join_files(parts: Iterable[Path], path: Path) -> None:
    """Write files one after the other into one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as out, out.open("wb") as file:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)


def read_chunks(path: Path, columns: Mapping[str, str]) -> Iterator[pd.DataFrame]:
    """Yield some columns of JSON lines written by `write_rows`, a chunk at a time, text in pyarrow's compact form.

    Args:
        path: the file.
        columns: those that are read, with their types: string, bool, int64, float64.

    Raises:
        UserError: a line that is no JSON, or holds what is not of its column's type.
    """
    import pandas as pd
    import pyarrow as pa
    from pyarrow import json as reader

    if path.stat().st_size == 0:
        return
    kinds = {"string": pa.large_string(), "bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64()}
    shape = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    text = {pa.large_string(): pd.StringDtype(na_value=float("nan"))}
    blocks = reader.ReadOptions(use_threads=False, block_size=BLOCK)
    chosen = reader.ParseOptions(explicit_schema=shape, unexpected_field_behavior="ignore")
    try:
        with reader.open_json(path, read_options=blocks, parse_options=chosen) as batches:
            for batch in batches:
                yield batch.to_pandas(types_mapper=text.get)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not rows of the pipeline ({error}); run the stage that writes it again") from None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary path that takes the place of `path` when the block ends well; otherwise nothing changes."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        yield part
        part.replace(path)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(path: Path) -> str:
    """Return one sha256 over the names and bytes of a file or of every file below a folder."""
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        total.update(f"{file.relative_to(path).as_posix()}\0{file_digest(file)}\n".encode())
    return total.hexdigest()


def text_digest(value: Any) -> str:
    """Return the sha256 of a JSON-able value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def replace_folder(source: Path, target: Path) -> None:
    """Copy a folder to `target` whole or not at all, taking the place of what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
