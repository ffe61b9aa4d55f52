from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dvc.schema import COMPILED_LOCKFILE_SCHEMA

from knowtune.common.errors import UserError
from stages.core.lock import KEPT, keep_lock, mend_lock
from stages.core.params import read_yaml

ROOT = Path(__file__).resolve().parents[4]
TEXT = (ROOT / "dvc.lock").read_bytes()
FIRST = TEXT[: TEXT.index(b"\n  prepare:\n") + 1]  # one whole entry
SIZE = FIRST[FIRST.index(b"size: ") :].partition(b"\n")[0]  # of its first file
OTHER = SIZE[:-1] + (b"1" if SIZE.endswith(b"0") else b"0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dvc.lock").write_bytes(TEXT)
    keep_lock(tmp_path)
    return tmp_path


@pytest.mark.parametrize("part", [i / 23 for i in range(23)])
def test_a_lock_that_was_cut_short_is_what_it_was(
    part: float, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dvc.lock").write_bytes(TEXT[: int(len(TEXT) * part)].removesuffix(b"\n"))  # between entries none is seen
    keep_lock(folder)
    mend_lock(folder)
    assert (folder / "dvc.lock").read_bytes() == TEXT
    assert capsys.readouterr().err == "dvc.lock: cut short; the last whole copy of dvc.lock stands there again\n"


@pytest.mark.parametrize("end", [*range(40, 1000, 61), *range(len(FIRST) - 30, len(FIRST), 3)])
def test_a_newer_lock_that_was_cut_short_gives_way_to_the_copy(end: int, folder: Path) -> None:
    """What is cut is not what was kept: an entry has changed. Each cut gives a lock that DVC reads."""
    newer = TEXT.replace(SIZE, OTHER)
    assert newer != TEXT
    (folder / "dvc.lock").write_bytes(newer[:end])
    keep_lock(folder)
    mend_lock(folder)
    COMPILED_LOCKFILE_SCHEMA(read_yaml(folder / "dvc.lock"))
    assert (folder / "dvc.lock").read_bytes() == TEXT or newer[:end].endswith(b"\n")


@pytest.mark.parametrize("text", [b"\x00" * 500, b"\xff\xfe", b"words", b"[1", b"stages: {a: 1}\n", b"stages: [a]\n"])
def test_garbage_gives_way_to_the_copy(text: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dvc.lock").write_bytes(text)
    mend_lock(folder)
    assert (folder / "dvc.lock").read_bytes() == TEXT
    assert "the last whole copy of dvc.lock stands there again" in capsys.readouterr().err


def test_without_a_copy_a_person_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_bytes(TEXT[:3333])
    with pytest.raises(UserError, match=r"dvc.lock: cut short; take it from git .* or remove it"):
        mend_lock(tmp_path)


def test_a_merge_is_for_a_person_to_finish(folder: Path) -> None:
    text = b"<<<<<<< HEAD\n" + TEXT + b"=======\n>>>>>>> other\n"
    (folder / "dvc.lock").write_bytes(text)
    with pytest.raises(UserError, match=r"dvc.lock: line 1: a merge that git did not finish; keep one of the two"):
        mend_lock(folder)
    assert (folder / "dvc.lock").read_bytes() == text


def test_a_good_lock_stays_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in (FIRST.replace(SIZE, OTHER), TEXT.replace(SIZE, OTHER), TEXT):
        (folder / "dvc.lock").write_bytes(text)
        mend_lock(folder)
        assert (folder / "dvc.lock").read_bytes() == text
    (folder / "dvc.lock").unlink()
    mend_lock(folder)
    keep_lock(folder)
    assert not (folder / "dvc.lock").exists()
    assert (folder / KEPT).read_bytes() == TEXT
    shutil.rmtree(folder / ".work")
    keep_lock(folder)
    assert capsys.readouterr().err == ""
