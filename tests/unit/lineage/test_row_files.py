from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from knowtune.common.files import write_rows
from knowtune.lineage.row_files import rows_where, rows_with


@pytest.fixture
def path(tmp_path: Path) -> Path:
    cells = ["plain", 'a "quoted" one', "a/b", "Côte\nd'Ivoire", "id", "PLAIN text"]
    write_rows(tmp_path / "rows.jsonl", pd.DataFrame({"id": [f"r/{i}" for i in range(6)], "prompt": cells, "n": 1}))
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize("number", range(6))
def test_every_row_is_found_by_its_id_and_by_its_text(path: Path, number: int) -> None:
    (row,) = rows_where(path, "id", f"r/{number}")
    assert row in list(rows_with(path, row["prompt"]))
    assert [row] == list(rows_where(path, "prompt", row["prompt"]))


def test_a_text_is_found_in_any_case_and_not_in_names_of_columns(path: Path) -> None:
    assert [row["id"] for row in rows_with(path, "plain")] == ["r/0", "r/5"]
    assert [row["id"] for row in rows_with(path, "prompt")] == []
    assert [row["id"] for row in rows_with(path, "r/3")] == ["r/3"]


def test_what_is_not_there_or_damaged_is_passed_over(path: Path, tmp_path: Path) -> None:
    assert list(rows_where(path, "id", "r")) == list(rows_where(path, "prompt", "r/1")) == []
    path.write_bytes(path.read_bytes() + b'{"id":"r/9","prompt":"pla')
    assert list(rows_where(path, "id", "r/9")) == []
    assert len(list(rows_with(path, "plain"))) == 2
    (tmp_path / "empty.jsonl").touch()
    assert list(rows_where(tmp_path / "empty.jsonl", "id", "r/0")) == []
