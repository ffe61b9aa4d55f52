from __future__ import annotations

import bz2
import gzip
import json
import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from knowtune.common.errors import UserError
from knowtune.data import parquet_records
from knowtune.data.records import ALLOWED, DELIMITED, PARQUET, READERS, read_records

ROWS: list[dict[str, Any]] = [{"q": "Ada é", "a": "NA"}, {"q": 'say "x",\ty', "a": "01"}]


def fails(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(read_records(path))
    return str(caught.value).removeprefix(f"{path}: ")


def written(folder: Path, ending: str) -> Path:
    path = folder / f"rows{ending}"
    if ending in PARQUET:
        pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    elif ending not in DELIMITED:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    elif ending == ".csv":
        path.write_text('q,a\nAda é,NA\n"say ""x"",\ty",01\n', encoding="utf-8")
    else:
        path.write_text('q\ta\nAda é\tNA\n"say ""x"",\ty"\t01\n', encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", READERS)
class TestEveryKind:
    def test_records_come_one_after_the_other(self, tmp_path: Path, ending: str) -> None:
        found = list(read_records(written(tmp_path, ending)))
        assert [record for _, record in found] == ROWS
        first = 2 if ending in DELIMITED else 1  # after the head
        assert [number for number, _ in found] == [first, first + 1]

    def test_an_ending_in_capitals(self, tmp_path: Path, ending: str) -> None:
        path = written(tmp_path, ending)
        assert len(list(read_records(path.rename(path.with_suffix(ending.upper()))))) == 2

    def test_a_missing_file(self, tmp_path: Path, ending: str) -> None:
        assert fails(tmp_path / f"gone{ending}") == "no such file; check `source` in params.yaml"

    def test_a_folder_is_no_file(self, tmp_path: Path, ending: str) -> None:
        (tmp_path / f"rows{ending}").mkdir()
        assert fails(tmp_path / f"rows{ending}") == "no such file; check `source` in params.yaml"

    def test_an_empty_file(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"rows{ending}"
        if ending in PARQUET:
            pyarrow.parquet.write_table(pa.table({"q": pa.array([], pa.string())}), path)
        else:
            path.write_text("q,a\n" if ending in DELIMITED else "\n  \n")
        assert fails(path) == "the file is empty; it needs at least one row"

    def test_a_file_without_a_byte(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"rows{ending}"
        path.write_bytes(b"")
        assert "empty" in fails(path) or fails(path).startswith("not a Parquet file that can be read (")


@pytest.mark.parametrize("name", ["rows", "rows.doc", "rows.gz", "rows.jsonl.old"])
def test_an_unknown_ending(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    assert fails(tmp_path / name) == f"got a file ending in {(tmp_path / name).suffix!r}; allowed: {ALLOWED}"


@pytest.mark.parametrize(
    ("name", "command"),
    [("a.xlsx", "libreoffice --headless --convert-to csv {path}"), ("a.jsonl.zip", "unzip {path}"),
     ("a.csv.zst", "zstd -d {path}"), ("a.parquet.gz", "gzip -d {path}"),
     ("a.arrow",
      "python -c \"from datasets import Dataset; Dataset.from_file('{path}').to_parquet('{stem}.parquet')\"")],
)  # fmt: skip
def test_a_file_that_one_command_converts(tmp_path: Path, name: str, command: str) -> None:
    path = tmp_path / name
    path.write_text("x")
    wanted = command.format(path=path, stem=path.with_suffix(""))
    assert fails(path) == f"got a file ending in {path.suffix!r}; `{wanted}` converts it; allowed: {ALLOWED}"


def ran(message: str, place: Path) -> None:
    """Run the command that a message gives."""
    command = message.split("`")[1].replace("python ", f"{sys.executable} ", 1)
    subprocess.run(command, shell=True, check=True, cwd=place)


def test_the_command_for_lines_of_text_does_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('One "é".\n\nTwo.\n', encoding="utf-8")
    ran(fails(tmp_path / "a.txt"), tmp_path)
    assert [record for _, record in read_records(tmp_path / "a.jsonl")] == [{"text": 'One "é".'}, {"text": "Two."}]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_command_for_arrow_does_it(tmp_path: Path, streamed: bool) -> None:
    table, path = pa.table({"q": [1, None]}), tmp_path / "a.arrow"
    with pa.ipc.new_stream(path, table.schema) if streamed else pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    ran(fails(path), tmp_path)
    assert [record for _, record in read_records(tmp_path / "a.parquet")] == [{"q": 1}, {"q": None}]


def test_the_command_for_windows_does_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("q,a\nthé,“x”\n".encode("cp1252"))
    ran(fails(tmp_path / "a.csv"), tmp_path)
    assert list(read_records(tmp_path / "a-utf8.csv")) == [(2, {"q": "thé", "a": "“x”"})]


@pytest.mark.parametrize("compressed", [("gz", gzip), ("bz2", bz2), ("xz", lzma)], ids=lambda pair: str(pair[0]))
class TestCompressed:
    @pytest.mark.parametrize("ending", [ending for ending in READERS if ending not in PARQUET])
    def test_every_kind_of_text(self, tmp_path: Path, ending: str, compressed: Any) -> None:
        plain = written(tmp_path, ending)
        path = tmp_path / f"more{ending}.{compressed[0]}"
        path.write_bytes(compressed[1].compress(plain.read_bytes()))
        assert list(read_records(path)) == list(read_records(plain))

    def test_cut_short(self, tmp_path: Path, compressed: Any) -> None:
        path = tmp_path / f"a.jsonl.{compressed[0]}"
        path.write_bytes(compressed[1].compress(b'{"q": 1}\n' * 99)[:-9])
        assert fails(path).startswith(f"not {compressed[1].__name__}, or cut short (")

    def test_under_another_ending(self, tmp_path: Path, compressed: Any) -> None:
        (tmp_path / "a.jsonl").write_bytes(compressed[1].compress(b'{"q": 1}\n'))
        assert fails(tmp_path / "a.jsonl").endswith(f"; give it the ending .{compressed[0]}")
        (tmp_path / f"b.jsonl.{compressed[0]}").write_text('{"q": 1}\n')
        assert "or cut short" in fails(tmp_path / f"b.jsonl.{compressed[0]}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".json"])
def test_other_encodings_of_unicode(tmp_path: Path, ending: str, encoding: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes('{"q": 1}\n'.encode(encoding))
    name = {"utf-16": "UTF-16", "utf-32": "UTF-32", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE"}[encoding]
    new = path.with_name(f"a-utf8{ending}")
    assert fails(path) == f"not UTF-8 but {name}; `iconv -f {name} -t UTF-8 {path} > {new}` converts it"


class TestJsonLines:
    def test_blank_lines_are_no_records_but_lines(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('\n{"q": 1}\n  \n{"q": 2}\n')
        assert list(read_records(tmp_path / "a.jsonl")) == [(2, {"q": 1}), (4, {"q": 2})]

    def test_broken_json(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"q": "p"}\n\n{"q": "p",}\n')
        message = fails(tmp_path / "a.jsonl")
        assert message.startswith("line 3: not JSON (")
        assert message.endswith(("column 10)", "column 11)"))  # Python's own count, which versions put differently

    def test_no_object(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"q": 1}\n[1]\n')
        assert fails(tmp_path / "a.jsonl") == "line 2: got a list; allowed: one JSON object a line"

    @pytest.mark.parametrize("text", ['{\n "data": [{"q": 1}]\n}\n', '{"data": [\n{"q": 1}]}'])
    def test_one_object_over_many_lines(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.json").write_text(text)
        message = fails(tmp_path / "a.json")
        assert message.startswith("line 1: not JSON (")
        ran(message.replace("'KEY'", "'data'"), tmp_path)
        assert list(read_records(tmp_path / "rows.jsonl")) == [(1, {"q": 1})]

    def test_a_last_line_that_is_cut(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"q": 1}\n{"q": "abc')
        assert fails(tmp_path / "a.jsonl").endswith("; the last line seems cut short")

    @pytest.mark.parametrize("text", ['{"q": 1, "a": 2, "q": 3}', '{"a": {"q": 1, "q": 1}}'])
    def test_a_key_given_twice(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.jsonl").write_text('{"q": 1}\n' + text + "\n")
        assert fails(tmp_path / "a.jsonl") == "line 2: the key 'q' is given twice"

    def test_nested_too_deep(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"q": ' + "[" * 200_000 + "]" * 200_000 + "}\n")
        assert fails(tmp_path / "a.jsonl") == "line 1: nested too deep"

    def test_numbers_are_as_written(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"a": 1.10, "b": ' + "9" * 5000 + ', "c": [1e3], "d": true}\r\n')
        [(_, record)] = read_records(tmp_path / "a.jsonl")
        assert [str(record["a"]), str(record["b"]), str(record["c"][0]), record["d"]] == [
            "1.10",
            "9" * 5000,
            "1e3",
            True,
        ]

    def test_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b'{"q": "p"}\n{"q": "\xe9t\xe9"}\n')
        place = tmp_path / "a.jsonl"
        assert fails(place) == (
            f"line 2: not UTF-8 (the byte 0xe9 at 18); `iconv -f WINDOWS-1252 -t UTF-8 {place} > "
            f"{tmp_path}/a-utf8.jsonl` converts it if it was written on Windows in a Western language"
        )

    def test_records_before_a_fault_come_first(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"q": 1}\nbroken\n')
        reading = read_records(tmp_path / "a.jsonl")
        assert next(reading) == (1, {"q": 1})
        with pytest.raises(UserError, match="line 2: not JSON"):
            next(reading)

    def test_a_mark_of_byte_order_is_no_fault(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"q": 1}\n', encoding="utf-8-sig")
        assert list(read_records(tmp_path / "a.jsonl")) == [(1, {"q": 1})]


class TestCsv:
    @pytest.mark.parametrize(("line", "got"), [("one", 1), ("one,two,three", 3), ("one,two,three,four", 4)])
    def test_a_line_of_more_or_fewer_cells(self, tmp_path: Path, line: str, got: int) -> None:
        (tmp_path / "a.csv").write_text(f"q,a\nx,y\n{line}\n")
        assert fails(tmp_path / "a.csv") == f"line 3: got {got} cells; allowed: 2, as the head has"

    def test_a_line_is_counted_as_an_editor_counts_it(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text('q,a\n"two\nlines",y\nx\n')
        assert fails(tmp_path / "a.csv") == "line 4: got 1 cells; allowed: 2, as the head has"

    def test_an_empty_cell_is_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("q,a\nx,\n")
        assert list(read_records(tmp_path / "a.csv")) == [(2, {"q": "x", "a": ""})]

    def test_a_mark_of_byte_order_is_no_part_of_the_first_column(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("q,a\nx,y\n", encoding="utf-8-sig")
        assert list(read_records(tmp_path / "a.csv")) == [(2, {"q": "x", "a": "y"})]

    def test_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes(b"q,a\nx,y\n\xe9t\xe9,y\n")
        assert fails(tmp_path / "a.csv").startswith("line 3: not UTF-8 (the byte 0xe9 at 8); `iconv -f WINDOWS-1252 ")

    def test_a_quote_that_never_ends(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text('q,a\n"x,y\nz\n')
        assert fails(tmp_path / "a.csv").startswith("line 3: not CSV (unexpected end of data); where quotes are plain ")

    def test_line_ends_of_windows_and_empty_lines(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes(b"q,a\r\n\r\nx,y\r\n  \r\nz,w")
        assert list(read_records(tmp_path / "a.csv")) == [(3, {"q": "x", "a": "y"}), (5, {"q": "z", "a": "w"})]

    def test_a_cell_of_many_characters(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("q,a\n" + "x" * 200_000 + ",y\n")
        assert len(next(iter(read_records(tmp_path / "a.csv")))[1]["q"]) == 200_000

    def test_the_unnamed_column_of_pandas_is_left_out(self, tmp_path: Path) -> None:
        pd.DataFrame({"q": ["x"], "a": ["y"]}).to_csv(tmp_path / "a.csv")
        assert list(read_records(tmp_path / "a.csv")) == [(2, {"q": "x", "a": "y"})]

    @pytest.mark.parametrize(
        ("head", "fault"),
        [("q,a,a", "the column 'a' is given twice"),
         ("q,a,A", "the column 'A' is given beside 'a', which differs in blanks or case alone"),
         ("a,q, a", "the column ' a' is given beside 'a', which differs in blanks or case alone"),
         ("q,a,", "the name of column 3 is empty; give every column a name"),
         ("q, ,a", "the name of column 2 is empty; give every column a name"),
         ("q,\ufeffq,a", "the column '\\ufeffq' is given beside 'q', which differs in blanks or case alone")],
    )  # fmt: skip
    def test_names_that_are_alike_or_empty(self, tmp_path: Path, head: str, fault: str) -> None:
        (tmp_path / "a.csv").write_text(f"{head}\nx,y,z\n", encoding="utf-8")
        assert fails(tmp_path / "a.csv").startswith(f"line 1: {fault}")


class TestParquet:
    def test_not_parquet(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_text("q,a\nx,y\n" * 4)
        message = fails(tmp_path / "a.parquet")
        assert message.startswith("not a Parquet file that can be read (")
        assert "\n" not in message

    def test_cut_short(self, tmp_path: Path) -> None:
        path = written(tmp_path, ".parquet")
        path.write_bytes(path.read_bytes()[:-20])
        assert fails(path).startswith("not a Parquet file that can be read (")

    def test_types_stay(self, tmp_path: Path) -> None:
        row = {"n": 3, "x": 0.5, "none": None, "many": ["a", "b"], "chat": [{"role": "user", "content": "Hi"}]}
        pyarrow.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
        assert list(read_records(tmp_path / "a.parquet")) == [(1, row)]

    def test_row_numbers_go_on_over_batches(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parquet_records, "BATCH", 2)
        pyarrow.parquet.write_table(pa.table({"n": list(range(5))}), tmp_path / "a.parquet")
        assert list(read_records(tmp_path / "a.parquet")) == [(i + 1, {"n": i}) for i in range(5)]
