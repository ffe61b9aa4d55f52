from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from knowtune import records
from knowtune.errors import UserError
from knowtune.records import READERS, read_records

ROWS: list[dict[str, Any]] = [{"q": "Ada é", "a": "NA"}, {"q": 'say "x",\ty', "a": "01"}]


def fails(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(read_records(path))
    return str(caught.value).removeprefix(f"{path}: ")


def written(folder: Path, ending: str) -> Path:
    path = folder / f"rows{ending}"
    if ending == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    elif ending in (".jsonl", ".json"):
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
        first = 2 if ending in (".csv", ".tsv") else 1  # after the head
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
        if ending == ".parquet":
            pyarrow.parquet.write_table(pa.table({"q": pa.array([], pa.string())}), path)
        else:
            path.write_text("q,a\n" if ending in (".csv", ".tsv") else "\n  \n")
        assert fails(path) == "the file is empty; it needs at least one row"

    def test_a_file_without_a_byte(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"rows{ending}"
        path.write_bytes(b"")
        assert "empty" in fails(path) or fails(path).startswith("not a Parquet file (")


def test_an_unknown_ending(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").write_text("x")
    allowed = ".jsonl, .json, .csv, .tsv, .parquet"
    assert fails(tmp_path / "rows.xlsx") == f"got a file ending in '.xlsx'; allowed: {allowed}"
    (tmp_path / "rows").write_text("x")
    assert fails(tmp_path / "rows") == f"got a file ending in ''; allowed: {allowed}"


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

    def test_one_array_over_many_lines(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text('[\n  {"q": 1}\n]\n')
        assert fails(tmp_path / "a.json").startswith("line 1: not JSON (")

    def test_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b'{"q": "p"}\n{"q": "\xe9t\xe9"}\n')
        expected = "line 2: not UTF-8 (invalid continuation byte); save the file as UTF-8"
        assert fails(tmp_path / "a.jsonl") == expected

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
        message = fails(tmp_path / "a.csv")
        assert message.startswith("after line ")
        assert message.endswith(": not UTF-8 (invalid continuation byte); save the file as UTF-8")

    def test_a_quote_that_never_ends(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text('q,a\n"x,y\n')
        assert fails(tmp_path / "a.csv") == "line 2: not CSV (unexpected end of data)"


class TestParquet:
    def test_not_parquet(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_text("q,a\nx,y\n" * 4)
        message = fails(tmp_path / "a.parquet")
        assert message.startswith("not a Parquet file (")
        assert "\n" not in message

    def test_cut_short(self, tmp_path: Path) -> None:
        path = written(tmp_path, ".parquet")
        path.write_bytes(path.read_bytes()[:-20])
        assert fails(path).startswith("not a Parquet file (")

    def test_types_stay(self, tmp_path: Path) -> None:
        row = {"n": 3, "x": 0.5, "none": None, "many": ["a", "b"], "chat": [{"role": "user", "content": "Hi"}]}
        pyarrow.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
        assert list(read_records(tmp_path / "a.parquet")) == [(1, row)]

    def test_row_numbers_go_on_over_batches(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(records, "CHUNK", 2)
        pyarrow.parquet.write_table(pa.table({"n": list(range(5))}), tmp_path / "a.parquet")
        assert list(read_records(tmp_path / "a.parquet")) == [(i + 1, {"n": i}) for i in range(5)]
