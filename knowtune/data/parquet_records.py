"""Records of Parquet: values of many types, as the cells that `knowtune.text.cells` knows.

Two rules look at a whole column of the file. Floats that are all whole numbers are whole numbers, since that is what
pandas makes of whole numbers beside a gap: the year 1960, not 1960.0. Times without a zone that are all midnight are
dates. Columns that pandas adds for its index are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.data.delimited import refuse_names
from knowtune.text.cells import Unreadable, number_of, plain

if TYPE_CHECKING:
    import pyarrow

BATCH = 2_000  # rows at a time; cells may be large
INDEX = re.compile(r"__index_level_\d+__")
EXACT = 2**53  # whole numbers below this are floats without a loss

Records = Iterator[tuple[int, dict[str, Any]]]


def parquet_records(path: Path) -> Records:
    """Yield row number and cells.

    Raises:
        UserError: no Parquet file, a broken or encrypted one, or names of columns that are alike.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            fields = [(position, field.name) for position, field in enumerate(file.schema_arrow)]
            fields = [(position, name) for position, name in fields if not INDEX.fullmatch(name)]
            refuse_names([name for _, name in fields], str(path))
            simple = {name for _, name in fields if _is_simple(file, name)}
            number = 0
            for batch in file.iter_batches(batch_size=BATCH):
                columns = [_column(batch.column(position), name in simple) for position, name in fields]
                names = [name for _, name in fields]
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield number, dict(zip(names, cells, strict=True))
    except (pyarrow.ArrowException, OSError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a Parquet file that can be read ({what})") from None


def _is_simple(file: pyarrow.parquet.ParquetFile, name: str) -> bool:
    """Tell a column of floats that are all whole numbers, or of times that are all midnight."""
    import pyarrow.compute as pc
    from pyarrow import types

    kind = file.schema_arrow.field(name).type
    if types.is_timestamp(kind) and kind.tz is None:
        batches = (b.column(0) for b in file.iter_batches(columns=[name]))
        return all(pc.all(pc.equal(pc.floor_temporal(b, unit="day"), b)).as_py() is not False for b in batches)
    if not types.is_floating(kind):
        return False
    for batch in file.iter_batches(columns=[name]):
        values = batch.column(0).drop_null().to_numpy(zero_copy_only=False)
        values = values[values == values].astype("float64")  # without NaN
        if ((values != values.round()) | (abs(values) > EXACT)).any():
            return False
    return True


def _column(values: pyarrow.Array, simple: bool) -> list[Any]:
    """Turn the values of a column into cells; text that is not UTF-8 and times that Python has not are unreadable.

    Args:
        values: of a batch.
        simple: see `_is_simple`.
    """
    try:
        return _cells(values, simple)
    except (ValueError, OverflowError, KeyError) as error:
        return [Unreadable(f"what cannot be read as {values.type} ({error})")] * len(values)


def _cells(values: pyarrow.Array, simple: bool = False) -> list[Any]:
    """Turn values into cells, by their type."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import types

    kind = values.type
    if types.is_dictionary(kind):
        return _cells(values.dictionary_decode())
    if types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind) or types.is_boolean(kind):
        return values.to_pylist()  # type: ignore[no-any-return]
    if types.is_timestamp(kind) and simple:
        return [plain(value) for value in values.cast(pa.date32()).to_pylist()]
    if types.is_interval(kind):
        return [None if value is None else Unreadable("an interval") for value in values.to_pylist()]
    if types.is_floating(kind):
        floats = [None if value is None else float(value) for value in values.to_pylist()]
        if simple:
            return [None if value is None or value != value else int(value) for value in floats]
        small = {16: np.float16, 32: np.float32}.get(kind.bit_width)
        return [None if v is None else number_of(v, str(small(v)) if small else None) for v in floats]
    if types.is_struct(kind):
        fields = [_cells(values.field(position)) for position in range(kind.num_fields)]
        names, missing = [field.name for field in kind], values.is_null().to_pylist()
        rows = zip(*fields, strict=True) if fields else ([] for _ in missing)
        return [None if gone else dict(zip(names, row, strict=True)) for gone, row in zip(missing, rows, strict=True)]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        parts = iter(_cells(values.flatten()))
        sizes = values.value_lengths().to_pylist()
        return [None if size is None else [next(parts) for _ in range(size)] for size in sizes]
    return [plain(value) for value in values.to_pylist()]
