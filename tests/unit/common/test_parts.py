from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from knowtune.common import parts
from knowtune.common.files import count_rows, join_files, read_parts, write_rows
from knowtune.common.parts import by_parts
from tests.unit.helpers import row, table


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parts, "SIZE", 3)
    write_rows(tmp_path / "rows.jsonl", table(*(row(f"0{i}", "p\n", f"t{i}") for i in range(8))))
    return tmp_path / "rows.jsonl"


def copy(rows: pd.DataFrame, label: str, path: Path) -> None:
    write_rows(path, rows)


def test_parts_put_together_are_the_whole(source: Path, tmp_path: Path) -> None:
    labels = []

    def make(rows: pd.DataFrame, label: str, path: Path) -> None:
        labels.append(label)
        assert rows.index.tolist() == list(range(len(rows)))
        copy(rows, label, path)

    found = by_parts(source, tmp_path / "work", ".jsonl", "reading", make)
    assert [path.name for path in found] == ["000000.jsonl", "000001.jsonl", "000002.jsonl"]
    assert labels == ["reading, part 1 of 3", "reading, part 2 of 3", "reading, part 3 of 3"]
    join_files(found, tmp_path / "out" / "rows.jsonl")
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == source.read_bytes()


def test_what_was_finished_is_not_done_again(source: Path, tmp_path: Path) -> None:
    done = []

    def make(rows: pd.DataFrame, label: str, path: Path) -> None:
        if len(done) == 2:
            path.write_text("half of it")
            raise KeyboardInterrupt
        done.append(rows["id"].tolist())
        copy(rows, label, path)

    with pytest.raises(KeyboardInterrupt):
        by_parts(source, tmp_path / "work", ".jsonl", "x", make)
    assert done == [["00", "01", "02"], ["03", "04", "05"]]
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["000000.jsonl", "000001.jsonl"]
    again = []
    found = by_parts(source, tmp_path / "work", ".jsonl", "x", lambda *given: (again.append(given[1]), copy(*given))[1])
    assert again == ["x, part 3 of 3"]
    join_files(found, tmp_path / "rows")
    assert (tmp_path / "rows").read_bytes() == source.read_bytes()


def test_a_single_part_is_not_counted(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", table(row("a", "p", "t")))
    labels: list[str] = []
    by_parts(
        tmp_path / "rows.jsonl",
        tmp_path,
        ".x",
        "asking",
        lambda r, label, path: (labels.append(label), copy(r, label, path))[1],
    )
    assert labels == ["asking"]


def test_an_empty_file_has_no_parts(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    assert by_parts(tmp_path / "rows.jsonl", tmp_path / "work", ".x", "x", copy) == []
    assert count_rows(tmp_path / "rows.jsonl") == 0
    assert list(read_parts(tmp_path / "rows.jsonl", 3)) == []


def test_text_stays_text(source: Path) -> None:
    assert count_rows(source) == 8
    first, *_ = read_parts(source, 5)
    assert first["id"].tolist() == ["00", "01", "02", "03", "04"]
    assert first["prompt"].tolist() == ["p\n"] * 5
