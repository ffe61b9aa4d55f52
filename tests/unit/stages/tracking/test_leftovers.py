from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.tracking import leftovers, paths, reproduction, spool


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    yield paths.room()


def note(room: Path, name: str, text: str = '{"reproduction": "1:2.0", "outs": ["a"]}') -> Path:
    path = room / "spool" / f"{name}.ended"
    (path / "links/outs").mkdir(parents=True)
    (path / "note.json").write_text(text)
    (path / "links/outs/0").write_bytes(b"x" * 1000)
    return path


def test_what_a_killed_process_left_is_swept_away(room: Path) -> None:
    old, young = (room / f"spool/.{name}.ended.part-1" for name in ("old", "young"))
    for part in (old, young):
        (part / "links").mkdir(parents=True)
    os.utime(old, (0, 0))
    half_removed = room / "spool/.x.ended.done"
    (half_removed / "links").mkdir(parents=True)
    dead, alive = (reproduction.word_file(key) for key in ("4194305:1.0", reproduction.own_key()))
    for path in (dead, alive):
        path.write_text("{}")
    leftovers.sweep()
    assert [path.exists() for path in (old, young, half_removed, dead, alive)] == [False, True, False, False, True]
    assert spool.pending_notes() == []


def test_a_note_is_gone_at_once_for_all_others(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of removing: what is left is no note any more."""
    path = note(room, "1")

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(leftovers, "_remove", killed)
    with pytest.raises(KeyboardInterrupt):
        leftovers.take_away(path)
    assert spool.pending_notes() == []
    monkeypatch.undo()


def test_what_waits_is_held_within_bounds(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [note(room, str(i)) for i in range(4)]
    owner = room / "owner"
    (paths[3] / "links/outs/0").unlink()
    owner.write_bytes(b"x" * 10**6)
    os.link(owner, paths[3] / "links/outs/0")  # costs nothing as long as its owner is there
    monkeypatch.setattr(leftovers, "WAITING", 2500)
    assert leftovers.shrink(paths) == 1
    assert spool.read_note(paths[0]) == {"reproduction": "1:2.0", "outs": [], "deps": [], "shed": True}
    assert not (paths[0] / "links").exists()
    assert (paths[1] / "links/outs/0").is_file()
    owner.unlink()
    assert leftovers.shrink(paths) == 3
    assert not list(room.glob("spool/*/links"))
    monkeypatch.setattr(leftovers, "MOST", 1)
    leftovers.shrink(paths)
    assert spool.pending_notes() == [paths[3]]


def test_a_broken_note_that_waits_is_not_kept(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "WAITING", 0)
    leftovers.shrink([note(room, "1", "{")])
    assert spool.pending_notes() == []


def test_what_is_put_aside_takes_an_older_ones_place(room: Path) -> None:
    for text in ("one", "two"):
        place = leftovers.put_aside(note(room, "1", text))
        assert place == room / "refused/1.ended"
        assert (place / "note.json").read_text() == text
    assert leftovers.put_aside(room / "spool/missing") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"reproduction": 1}), "\ud800"])
def test_odd_notes_are_errors_of_two_kinds(room: Path, text: str) -> None:
    path = note(room, "1")
    (path / "note.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises((OSError, ValueError)):
        spool.read_note(path)
    assert spool.pending_notes("1:2.0") == []


def test_a_folder_without_its_note_is_an_error_and_a_vanished_one_is_empty(room: Path) -> None:
    path = note(room, "1")
    (path / "note.json").unlink()
    with pytest.raises(FileNotFoundError):
        spool.read_note(path)
    assert spool.read_note(room / "spool/2.ended") == {}
