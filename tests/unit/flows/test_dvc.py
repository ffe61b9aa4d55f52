"""A lock that is written by the entry has the bytes that DVC writes."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml, modify_yaml

from flows.dvc import modify_lock

ROOT = Path(__file__).parents[3]
PIPELINE = "stages: {a: {cmd: cp x y, deps: [x], outs: [y]}, b: {cmd: cp y z, deps: [y], outs: [z]}}\n"


def change(path: Path, changes: dict[str, Any], modify: Any) -> bytes:
    """Do what DVC does after stages have run."""
    with modify(str(path)) as data:
        data.update({"schema": "2.0"} if not data else {})
        data["stages"] = data.get("stages", {})
        for name, entry in changes.items():
            known = data["stages"].get(name, {})
            data["stages"].update({name: {**known, **entry}})
    return path.read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"base": {}},
        {"train@kept": {"cmd": "python -m stages.train " + "--long option " * 20}},
        {"gate": {"outs": [{"path": "data/ä", "md5": "0123", "size": 0}]}, "new@1": {"cmd": "yes: 'no' # maybe"}},
        {"new": {"cmd": ["a", "b"], "params": {"params.yaml": {"x": None, "y": "1", "z": True, "w": 1e-5, "v": "on"}}}},
    ],
)
def test_an_entry_is_written_as_dvc_writes_all(changes: dict[str, Any], tmp_path: Path) -> None:
    ours, theirs = tmp_path / "dvc.lock", tmp_path / "theirs/dvc.lock"
    theirs.parent.mkdir()
    for path in (ours, theirs):
        shutil.copyfile(ROOT / "dvc.lock", path)
    before = ours.read_bytes()
    assert change(ours, changes, modify_lock) == change(theirs, changes, modify_yaml)
    assert (ours.read_bytes() == before) is all(not entry for entry in changes.values())
    assert not [*tmp_path.glob(".*part*")]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "schema: '2.0'\n",
        "schema: '2.0'\nstages: {}\n",
        "schema: '2.0'\nstages:\n  a:\n    cmd: x\ndatasets: []\n",
        "# a comment\nschema: '2.0'\nstages:\n  a:\n    cmd: x\n",
        "schema: '2.0'\nstages:\n  a:\n    cmd: x",
        "schema: '2.0'\nstages:\n  a:\n    params:\n      p: &id001\n        x: 1\n      q: *id001\n",
    ],
)
def test_a_lock_of_another_shape_is_left_to_dvc(text: str | None, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "dvc.lock", tmp_path / "theirs/dvc.lock"
    theirs.parent.mkdir()
    for path in (ours, theirs):
        if text is not None:
            path.write_text(text)
    entry = {"b": {"cmd": "y"}}
    assert change(ours, entry, modify_lock) == change(theirs, entry, modify_yaml)
    assert load_yaml(ours)["stages"]["b"] == {"cmd": "y"}


def test_what_stands_twice_is_numbered_through_the_file(tmp_path: Path) -> None:
    def shared() -> dict[str, Any]:
        twice = {"rank": 2}
        return {"cmd": "x", "params": {"p": {"a": twice, "b": twice}}}

    ours, theirs = tmp_path / "dvc.lock", tmp_path / "theirs/dvc.lock"
    theirs.parent.mkdir()
    for path, modify in ((ours, modify_lock), (theirs, modify_yaml)):
        shutil.copyfile(ROOT / "dvc.lock", path)
        for name in ("zero", "one", "gate"):
            change(path, {name: shared()}, modify)
        change(path, {"base": {"cmd": "y"}}, modify)
    assert "&id003" in theirs.read_text()
    assert ours.read_bytes() == theirs.read_bytes()


def test_what_fails_half_way_leaves_the_lock_as_it_was(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    shutil.copyfile(ROOT / "dvc.lock", lock)
    before = lock.read_bytes()
    with pytest.raises(OSError), modify_lock(str(lock)) as data:
        data["stages"]["base"] = {"cmd": "x"}
        raise OSError
    assert lock.read_bytes() == before


def test_dvc_writes_its_lock_with_it(tmp_path: Path) -> None:
    def run(module: str, *arguments: str) -> str:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True
        ).stdout

    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "x").write_text("1\n")
    run("dvc", "init", "-q", "--no-scm")
    assert "Generating lock file" in run("flows.dvc", "repro")
    lock, made = tmp_path / "dvc.lock", (tmp_path / "dvc.lock").read_text()
    lock.unlink()
    run("dvc", "repro", "--force")
    assert lock.read_text() == made
    lock.write_text(made.replace("path: x", "path: 'x'"))  # which DVC itself would write again without the marks
    assert "Updating lock file" not in run("flows.dvc", "repro", "--force", "--single-item", "b")
    assert "path: 'x'" in lock.read_text()
    (tmp_path / "x").write_text("2\n")
    assert "Updating lock file" in run("flows.dvc", "repro")
    changed = lock.read_text()
    assert changed != made and "path: 'x'" not in changed
    assert "Data and pipelines are up to date" in run("dvc", "status")
