from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from knowtune.common.errors import UserError
from knowtune.data import json_records
from knowtune.data.records import read_records

ROWS: list[dict[str, Any]] = [
    {"q": f'é {i} \\ " ],' + "x" * (i * 7), "n": i * 1000 + 7, "l": [1.5, {"a": None}]} for i in range(9)
]


def fails(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(read_records(path))
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 1 << 16])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_an_array_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, indent: int | None, ascii_only: bool
) -> None:
    monkeypatch.setattr(json_records, "PIECE", piece)
    text = json.dumps(ROWS, indent=indent, ensure_ascii=ascii_only)
    (tmp_path / "a.json").write_text("\n " + text + " \n", encoding="utf-8-sig")
    found = list(read_records(tmp_path / "a.json"))
    assert [record for _, record in found] == ROWS
    numbers = [number for number, _ in found]
    assert numbers == [2] * 9 if indent is None else numbers == [3 + 10 * i for i in range(9)]


def test_an_array_is_not_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "PIECE", 1000)
    (tmp_path / "a.json").write_text(json.dumps([{"q": "x" * 300}] * 1000))
    longest = 0
    more = json_records._Array._more

    def watched(array: Any) -> bool:
        nonlocal longest
        found = more(array)
        longest = max(longest, len(array.piece))
        return found

    monkeypatch.setattr(json_records._Array, "_more", watched)
    assert len(list(read_records(tmp_path / "a.json"))) == 1000
    assert longest < 3000


@pytest.mark.parametrize(
    ("text", "fault"),
    [('[\n{"q": 1},\n{"q": }\n]', "line 3: not JSON (Expecting value)"),
     ('[\n{"q": 1}\n{"q": 2}\n]', "line 3: not JSON (expected , or ] after an object)"),
     ('[{"q": 1},\n[2]]', "line 2: got no object; allowed: an array of objects"),
     ('[{"q": 1},\n', "line 2: the array is cut short"), ('[{"q": 1}\n', "line 2: the array is cut short"),
     ('[{"q": 1}, {"q": "ab', "line 1: not JSON (Unterminated string starting at); the file is cut short"),
     ('[{"q": 1}]\n{"q": 2}', "line 2: something stands after the array"),
     ('[{"q": 1},\n{"q": 2, "q": 3}]', "line 2: the key 'q' is given twice"),
     ("[1]\n", "line 1: got no object; allowed: an array of objects"),
     ("[]", "the file is empty; it needs at least one row"), ("[", "line 1: the array is cut short")],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_what_is_wrong_with_an_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, fault: str, piece: int
) -> None:
    monkeypatch.setattr(json_records, "PIECE", piece)
    (tmp_path / "a.json").write_text(text)
    assert fails(tmp_path / "a.json") == fault


def test_a_fault_stops_before_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "PIECE", 100)
    (tmp_path / "a.json").write_text('[{"q": nothing}' + ', {"q": 1}' * 10_000 + "]")
    array = json_records._Array(tmp_path / "a.json", (tmp_path / "a.json").open())
    with pytest.raises(UserError, match="line 1: not JSON"), array.text:
        list(array.records())
    assert len(array.piece) < 1000


def test_an_array_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"q": "p"},\n{"q": "\xe9t\xe9"}]')
    assert fails(tmp_path / "a.json").startswith("line 2: not UTF-8 (the byte 0xe9 at 20); `iconv ")
