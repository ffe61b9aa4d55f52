from __future__ import annotations

import base64
import datetime
import decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from knowtune.common.errors import UserError
from knowtune.data.records import read_records
from knowtune.text.cells import text_of


def cells(folder: Path, table: Any) -> list[Any]:
    pyarrow.parquet.write_table(table if isinstance(table, pa.Table) else pa.table({"x": table}), folder / "a.parquet")
    return [record["x"] for _, record in read_records(folder / "a.parquet")]


DAY = datetime.datetime(1969, 7, 20)
NOON = datetime.datetime(1969, 7, 20, 12, 30)


@pytest.mark.parametrize(
    ("values", "texts"),
    [(pa.array(["NA", " x ", None]), ["NA", " x ", ""]), (pa.array(["a"], pa.large_string()), ["a"]),
     (pa.array(["a"], pa.string_view()), ["a"]), (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
     (pa.array([1960, None]), ["1960", ""]), (pa.array([2**63], pa.uint64()), [str(2**63)]),
     (pa.array([1960.0, None, float("nan"), -2.0]), ["1960", "", "", "-2"]), (pa.array([1.5, 2.0]), ["1.5", "2.0"]),
     (pa.array([1e20, 1.0]), ["1e+20", "1.0"]), (pa.array([0.1, 1e-7], pa.float32()), ["0.1", "1e-07"]),
     (pa.array([0.1, 2.5], pa.float16()), ["0.1", "2.5"]), (pa.array([3, 4], pa.float32()), ["3", "4"]),
     (pa.array([True, None]), ["true", ""]), (pa.array([decimal.Decimal("1.10")]), ["1.10"]),
     (pa.array([datetime.date(1969, 7, 20)]), ["1969-07-20"]), (pa.array([DAY, None]), ["1969-07-20", ""]),
     (pa.array([DAY, NOON]), ["1969-07-20T00:00:00", "1969-07-20T12:30:00"]),
     (pa.array([DAY], pa.timestamp("us", "UTC")), ["1969-07-20T00:00:00+00:00"]),
     (pa.array([datetime.time(12, 30)]), ["12:30:00"]), (pa.array(["é".encode(), None]), ["é", ""]),
     (pa.array([b"ab"], pa.binary(2)), ["ab"]), (pa.array([None, None]), ["", ""])],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)  # fmt: skip
def test_values_become_texts(tmp_path: Path, values: pa.Array, texts: list[str]) -> None:
    assert [text_of(cell) for cell in cells(tmp_path, values)] == texts


@pytest.mark.parametrize(
    ("values", "what"),
    [(pa.array([datetime.timedelta(1)]), "got a duration"),
     (pa.array([b"\xff\x00"]), "got bytes that are no UTF-8 text"),
     (pa.array([{"a": 1}]), "got a dict"), (pa.array([[1]]), "got a list"),
     (pa.array([float("inf")]), "got a number that is not"),
     (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "got a list")],
)  # fmt: skip
def test_what_is_no_text_is_refused_where_it_is_taken(tmp_path: Path, values: pa.Array, what: str) -> None:
    [cell] = cells(tmp_path, values)
    with pytest.raises(ValueError, match=what):
        text_of(cell)


def test_nested_values(tmp_path: Path) -> None:
    small = pa.array([[0.1], None, [None, 2.5]], pa.list_(pa.float32()))
    assert [cell and [text_of(part) for part in cell] for cell in cells(tmp_path, small)] == [
        ["0.1"],
        None,
        ["", "2.5"],
    ]
    deep = [{"text": ["a", "b"], "at": [{"n": 1}]}, None, {"text": [], "at": None}]
    assert cells(tmp_path, pa.array(deep)) == deep
    assert cells(tmp_path, pa.array([["a", "b"], ["c", None]], pa.list_(pa.string(), 2))) == [["a", "b"], ["c", None]]


def test_whole_numbers_beside_a_gap_as_pandas_writes_them(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1960, None, 1999]}).to_parquet(tmp_path / "a.parquet")
    found = [record["x"] for _, record in read_records(tmp_path / "a.parquet")]
    assert (found, [type(cell) for cell in found]) == ([1960, None, 1999], [int, type(None), int])


def test_a_column_is_judged_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowtune.data.parquet_records.BATCH", 1)
    table = pa.table({"x": [1.0, 2.0, 2.5]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    assert [str(record["x"]) for _, record in read_records(tmp_path / "a.parquet")] == ["1.0", "2.0", "2.5"]


def test_the_index_of_pandas_is_left_out(tmp_path: Path) -> None:
    pd.DataFrame({"x": ["a", "b"]}).iloc[::-1].to_parquet(tmp_path / "a.parquet")
    assert list(read_records(tmp_path / "a.parquet")) == [(1, {"x": "b"}), (2, {"x": "a"})]


def test_names_given_twice(tmp_path: Path) -> None:
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["x", "x"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="the column 'x' is given twice"):
        list(read_records(tmp_path / "a.parquet"))


def test_what_cannot_be_read_harms_no_other_column(tmp_path: Path) -> None:
    odd = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    late = pa.array([10**18], pa.timestamp("us"))
    pyarrow.parquet.write_table(pa.table({"x": odd, "y": late, "z": ["a"]}), tmp_path / "a.parquet")
    [(_, record)] = read_records(tmp_path / "a.parquet")
    assert record["z"] == "a"
    for name, kind in (("x", "string"), ("y", r"timestamp\[us\]")):
        with pytest.raises(ValueError, match=f"^got what cannot be read as {kind} "):
            text_of(record[name])


def test_an_encrypted_file(tmp_path: Path) -> None:
    encryption = pytest.importorskip("pyarrow.parquet.encryption")

    class Keys(encryption.KmsClient):  # type: ignore[misc]
        def __init__(self, _: Any) -> None:
            super().__init__()

        def wrap_key(self, key: bytes, _: str) -> bytes:
            return base64.b64encode(key)

    how = encryption.EncryptionConfiguration(footer_key="f", column_keys={"c": ["x"]})
    keys = encryption.CryptoFactory(Keys).file_encryption_properties(encryption.KmsConnectionConfig(), how)
    table = pa.table({"x": ["a"]})
    with pyarrow.parquet.ParquetWriter(tmp_path / "a.parquet", table.schema, encryption_properties=keys) as writer:
        writer.write_table(table)
    with pytest.raises(UserError, match=r"not a Parquet file that can be read .*encrypted"):
        list(read_records(tmp_path / "a.parquet"))
