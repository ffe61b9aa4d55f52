from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from cli.objects import CACHE, NOTE, OBJECTS, sound_objects


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / CACHE / OBJECTS).mkdir(parents=True)
    add(tmp_path, b"rows")
    add(tmp_path, b"[]", ".dir")
    with sound_objects(tmp_path):
        add(tmp_path, b"weights")
    return tmp_path


def add(project: Path, content: bytes, ending: str = "") -> Path:
    digest = hashlib.md5(content).hexdigest()
    path = project / CACHE / OBJECTS / digest[:2] / (digest[2:] + ending)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)
    return path


def damage(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("content", [b"", b"row", b"rowz", b"rows and more"])
def test_a_damaged_object_is_removed_and_told(
    content: bytes, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = add(project, b"rows"), add(project, b"weights")
    damage(bad, content)
    damage(good, b"weights")  # touched, but what it was
    with sound_objects(project):
        assert not bad.exists()
        assert good.exists()
    name = hashlib.md5(b"rows").hexdigest()[:8]
    assert capsys.readouterr().err == (
        f"DVC's cache: 1 damaged object is removed ({name}); what needs it is made again\n"
    )


def test_damage_while_dvc_works_is_found_the_next_time(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, listing = add(project, b"weights"), add(project, b"[]", ".dir")
    with sound_objects(project):
        damage(bad, b"weigh")
        damage(listing, b"[")
    with sound_objects(project):
        assert not bad.exists()
        assert not listing.exists()
    assert "2 damaged objects are removed" in capsys.readouterr().err


def test_only_objects_whose_time_or_size_is_new_are_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = json.loads((project / CACHE / NOTE).read_text())
    assert len(noted) == 3
    monkeypatch.setattr("cli.objects._md5", lambda path: pytest.fail(f"{path} was read"))
    with sound_objects(project):
        assert json.loads((project / CACHE / NOTE).read_text()) == noted


@pytest.mark.parametrize("note", [b"", b"[1]", b"\xff", b"{"])
def test_a_note_that_cannot_be_read_costs_a_reading_of_all(note: bytes, project: Path) -> None:
    (project / CACHE / NOTE).write_bytes(note)
    path = add(project, b"rows")
    damage(path, b"row")
    with sound_objects(project):
        assert not path.exists()
    assert len(json.loads((project / CACHE / NOTE).read_text())) == 2


def test_a_workspace_uses_the_cache_of_its_project(project: Path) -> None:
    (project / "workspaces/mine/.dvc").mkdir(parents=True)
    path = add(project, b"rows")
    damage(path, b"row")
    with sound_objects(project / "workspaces/mine"):
        assert not path.exists()


def test_a_project_without_a_cache_gets_none(tmp_path: Path) -> None:
    with sound_objects(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
