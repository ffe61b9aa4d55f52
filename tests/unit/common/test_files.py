from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from knowtune.common.errors import UserError
from knowtune.common.files import (
    file_digest,
    read_chunks,
    read_json,
    read_rows,
    replace_folder,
    row_writer,
    text_digest,
    tree_digest,
    whole,
    write_json,
    write_rows,
)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_json_is_canonical(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "a.json", {"b": [1, None], "a": "ü"})
    assert (tmp_path / "deep" / "a.json").read_bytes() == (
        '{\n  "a": "ü",\n  "b": [\n    1,\n    null\n  ]\n}\n'.encode()
    )
    assert read_json(tmp_path / "deep" / "a.json") == {"a": "ü", "b": [1, None]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_no_number(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(tmp_path / "a.json", {"x": value})
    assert names(tmp_path) == []


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "id": ["01", "1e5", "null", "2020-01-01"],
            "text": ["a\nb", 'say "x" / \\', "é 漢 😀", ""],
            "score": [0.1, 1 / 3, 1e-300, -2.0],
            "chosen": [True, False, True, False],
            "num": [1, 2, 3, 4],
        }
    )
    write_rows(tmp_path / "rows.jsonl", table)
    back = read_rows(tmp_path / "rows.jsonl")
    assert back.columns.tolist() == table.columns.tolist()
    assert back["id"].tolist() == table["id"].tolist()
    assert back["text"].tolist() == table["text"].tolist()
    assert back["chosen"].tolist() == [True, False, True, False]
    assert back["num"].tolist() == [1, 2, 3, 4]
    assert back["score"].tolist() == pytest.approx(table["score"].tolist(), rel=1e-14, abs=1e-15)


def test_rows_are_written_one_a_line_in_the_order_of_the_columns(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", pd.DataFrame({"b": ["é", "y"], "a": [1, 2]}))
    assert (tmp_path / "rows.jsonl").read_text("utf-8") == '{"b":"é","a":1}\n{"b":"y","a":2}\n'


def test_no_rows_are_an_empty_file_and_come_back_with_columns(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", pd.DataFrame({"id": [], "text": []}))
    assert (tmp_path / "rows.jsonl").read_bytes() == b""
    back = read_rows(tmp_path / "rows.jsonl", ["id", "text"])
    assert (len(back), back.columns.tolist()) == (0, ["id", "text"])
    assert back["text"].tolist() == []
    assert read_rows(tmp_path / "rows.jsonl").columns.tolist() == ["id"]


def test_whole_replaces_only_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), whole(path) as part:
        part.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]
    with whole(path) as part:
        assert part.parent == tmp_path
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_whole_removes_a_half_made_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole(tmp_path / "model") as part:
        part.mkdir()
        (part / "file").write_text("x")
        raise RuntimeError
    assert names(tmp_path) == []


def test_file_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert tree_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_tree_digest_is_of_names_and_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "b").write_text("b")
        (tmp_path / folder / "a").write_text("a")
    (tmp_path / "two" / "__pycache__").mkdir()
    (tmp_path / "two" / "__pycache__" / "x.pyc").write_text("no source")
    a, b = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()
    expected = hashlib.sha256(f"a\0{a}\ndeep/b\0{b}\n".encode()).hexdigest()
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "two") == expected
    (tmp_path / "two" / "a").rename(tmp_path / "two" / "c")
    assert tree_digest(tmp_path / "two") != expected


def test_tree_digest_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        tree_digest(tmp_path / "none")
    assert str(caught.value) == f"{tmp_path / 'none'}: no such file or folder"


def test_text_digest_ignores_the_order_of_keys() -> None:
    assert text_digest({"b": 1, "a": "é"}) == text_digest({"a": "é", "b": 1})
    assert text_digest({"a": "é", "b": 1}) == hashlib.sha256('{"a": "é", "b": 1}'.encode()).hexdigest()
    assert text_digest([1, 2]) != text_digest([2, 1])


def test_replace_folder_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "new").write_text("new")
    target.mkdir(parents=True)
    (target / "old").write_text("old")
    replace_folder(source, target)
    assert names(target) == ["sub", "sub/new"]
    assert names(tmp_path / "deep") == ["target", "target/sub", "target/sub/new"]
    assert names(source) == ["sub", "sub/new"]


def test_rows_that_are_appended_are_rows_that_are_written(tmp_path: Path) -> None:
    rows = pd.DataFrame({"id": ["01", "2", "ü"], "value": [0.1, None, 2.0]})
    write_rows(tmp_path / "whole.jsonl", rows)
    with row_writer(tmp_path / "parts.jsonl") as write:
        write(rows[:1])
        write(rows[1:1])
        write(rows[1:])
        assert names(tmp_path) != ["parts.jsonl", "whole.jsonl"], "it is not there before the end"
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_chunks_are_the_rows(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"id": ["01", "2", "ü\n"], "flag": [True, False, True], "value": [0.1, None, 1 / 3], "n": [1, 2, 3]}
    )
    write_rows(tmp_path / "a.jsonl", rows)
    (found,) = read_chunks(tmp_path / "a.jsonl", {"value": "float64", "id": "string", "flag": "bool", "n": "int64"})
    assert found.dtypes.astype(str).to_dict() == {"value": "float64", "id": "str", "flag": "bool", "n": "int64"}
    pd.testing.assert_frame_equal(found[rows.columns], read_rows(tmp_path / "a.jsonl"))
    (tmp_path / "empty.jsonl").touch()
    assert list(read_chunks(tmp_path / "empty.jsonl", {"id": "string"})) == []


@pytest.mark.parametrize("text", ['{"id": ', '{"id": 3}\n', "[1]\n"])
def test_broken_chunks_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"a\.jsonl: not rows of the pipeline .*; run the stage that writes it again"):
        list(read_chunks(tmp_path / "a.jsonl", {"id": "string"}))
