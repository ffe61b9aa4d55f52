"""Whatever bytes a data file has: records of cells whose texts can be stored, or a line in our words."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowtune.common.errors import UserError
from knowtune.data.records import READERS, read_records
from knowtune.tasks.classification import Classification
from knowtune.tasks.regression import Regression
from knowtune.text.cells import fault_of, storable, text_of, texts_of
from knowtune.text.json_cells import DECODER, to_json

QUIET = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LABELS = Classification(labels=["1", "2", "three"])
PIECES = ['{"q": "a", "l": 1.50}', "\n", "\r\n", "q,l\n", '"', "a\tb\n", ";", "|", ",", "[", "]", "{", "}", "\ufeff",
          "\0", "\\ud83d", "é", "NaN", "1e999", "-", "[]", "'", "null", "\u2028", "\x1c", "9" * 400,
          "sep=;\n"]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
contents = st.one_of(texts.map(str.encode), st.binary(max_size=60), texts.map(lambda text: text.encode("utf-16")))


def read_all(path: Path) -> None:
    """Read a file's cells as every task reads them."""
    for number, record in read_records(path):
        assert number > 0
        for cell in record.values():
            for read in (text_of, texts_of, LABELS.read_target, Regression().read_target):
                with contextlib.suppress(ValueError):
                    found: Any = read(cell)
                    assert all(fault_of(storable(text).replace("\0", "")) == "" for text in found)


@pytest.mark.parametrize("ending", [*READERS, ".jsonl.gz", ".csv.gz"])
@QUIET
@given(content=contents, packed=st.booleans())
def test_any_bytes(tmp_path: Path, ending: str, content: bytes, packed: bool) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(content) if packed else content)
    with contextlib.suppress(UserError):
        read_all(path)


@pytest.mark.parametrize("seed", range(20))
def test_a_parquet_file_with_bytes_changed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    table = pa.table({"q": ["a", "é"] * 50, "n": [1.5, None] * 50, "l": [["a"], None] * 50})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    for _ in range(chance.randint(1, 9)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    (tmp_path / "a.parquet").write_bytes(content)
    with contextlib.suppress(UserError):
        read_all(tmp_path / "a.parquet")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@QUIET
@given(record=st.dictionaries(st.text(), json_values, min_size=1, max_size=4), indent=st.sampled_from([None, 1]))
def test_what_json_writes_comes_back(tmp_path: Path, record: dict[str, Any], indent: int | None) -> None:
    (tmp_path / "a.json").write_text(json.dumps([record, record], indent=indent))
    found = [one for _, one in read_records(tmp_path / "a.json")]
    assert found == [record, record]
    assert DECODER.decode(to_json(found[0])) == record


@QUIET
@given(rows=st.lists(st.tuples(st.text(), st.text(min_size=1)), min_size=1, max_size=4))
def test_what_a_csv_writer_writes_comes_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    import csv

    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("q", "a"), *rows])
    try:
        found = list(read_records(tmp_path / "a.csv"))
    except UserError as error:
        assert "it is open whether these lines are one row or several" in str(error)
        return
    assert [tuple(record.values()) for _, record in found] == rows
