"""What a disk or a program damages in DVC's cache, or in an out that is a hard link to it, is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.core.params import read_yaml
from tests.pipeline.conftest import Project, ran


def object_of(project: Project, out: str) -> Path:
    """The cache's object of a file that is an out."""
    entries = [entry for stage in read_yaml(project.folder / "dvc.lock")["stages"].values() for entry in stage["outs"]]
    (md5,) = (entry["md5"] for entry in entries if entry["path"] == out)
    return project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


@pytest.mark.parametrize("linked", [True, False])
def test_a_damaged_object_is_told_and_its_stage_runs_again(project: Project, linked: bool) -> None:
    name = "data/prepared/train.jsonl"
    path, lock, good = object_of(project, name), project.lock(), project.bytes("data")
    out = project.folder / name
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:700])
    path.chmod(0o444)
    out.unlink()
    if linked:
        out.hardlink_to(path)
    done = project.command("cli", "run")
    assert f"DVC's cache: 1 damaged object is removed ({path.parent.name + path.name[:6]})" in done.stderr
    assert ran(done.stdout) == ["prepare"]
    assert project.lock() == lock
    assert project.bytes("data") == good
