from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from knowtune.common.errors import UserError
from stages.tracking import links, paths, reproduction, stage_notes
from stages.tracking.spool import pending_notes, read_note

PIPELINE = """
stages:
  first: {cmd: one, outs: [made]}
  validate: {cmd: check, outs: [digests]}
  work: {desc: does it, cmd: two, deps: [made, read.txt, lost, digests/work.json], outs: [out], params: [knob]}
"""
LOCK = "stages:\n  first:\n    cmd: one\n    outs: [{path: made, md5: abc.dir, size: 1}]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in {"dvc.yaml": PIPELINE, "params.yaml": "knob: 3\n", "dvc.lock": LOCK, "read.txt": "r"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    monkeypatch.setattr(stage_notes, "wake", lambda: None)
    monkeypatch.setenv("DVC_STAGE", "dvc.yaml:work")
    monkeypatch.setenv(reproduction.VARIABLE, reproduction.own_key())
    yield tmp_path


def params(store: str = "mlflow") -> Any:
    return SimpleNamespace(tracking=SimpleNamespace(store=store, experiment="e"))


def make_out() -> None:
    Path("out/seed-0").mkdir(parents=True)
    Path("out/seed-0/x.txt").write_text("one")


def ended() -> tuple[Path, dict[str, Any]]:
    (path,) = [p for p in pending_notes() if p.suffix == ".ended"]
    return path, read_note(path)


def test_a_stage_hands_in_what_it_was(folder: Path) -> None:
    with stage_notes.track(params()):
        make_out()
        assert [p.name.partition(".")[2] for p in pending_notes()] == ["started.json"]
    path, note = ended()
    assert (note["stage"], note["code"], note["params"], note["description"]) == ("work", 0, {"knob": 3}, "does it")
    assert note["deps"] == ["made", "read.txt", "lost", "digests/work.json"]
    assert note["code_files"] == ["digests/work.json"]  # no data
    assert note["seconds"] >= 0
    assert note["peak_bytes"] > 1_000_000
    assert (path / "dvc.lock").read_text() == LOCK
    assert sorted(p.name for p in (path / "links/deps").iterdir()) == ["1"]  # an upstream out is dvc.lock's business


@pytest.mark.parametrize("small", [0, 2**16])
def test_the_bytes_of_replaced_outs_are_kept(folder: Path, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SMALL", small)
    with stage_notes.track(params()):
        make_out()
    Path("out/seed-0/x.txt").unlink()
    Path("out/seed-0/x.txt").write_text("two")
    path, _ = ended()
    assert (path / "links/outs/0/seed-0/x.txt").read_text() == "one"


def test_code_edited_afterwards_is_not_what_was_run(folder: Path) -> None:
    with stage_notes.track(params()):
        make_out()
    Path("read.txt").write_text("edited in place")
    path, _ = ended()
    assert (path / "links/deps/1").read_text() == "r"


def test_without_links_the_stage_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SMALL", 0)

    def refuse(*_: object) -> None:
        raise OSError(18, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    with stage_notes.track(params()):
        make_out()
    path, _ = ended()
    assert not (path / "links/outs/0").exists()


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UserError("bad row"), 1, "bad row"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("x"), 1, "ValueError: x"),
    ],
)
def test_a_failed_stage_says_why_and_fails_all_the_same(folder: Path, error: Any, code: int, text: str) -> None:
    with pytest.raises(type(error)), stage_notes.track(params()):
        raise error
    _, note = ended()
    assert note["code"] == code
    assert text in note["error"]


def test_off_is_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stage_notes.track(params("none")):
        pass
    monkeypatch.delenv("DVC_STAGE")
    with stage_notes.track(params()):
        pass
    assert not (folder / ".work").exists()


def test_tracking_that_fails_stops_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ".work").write_text("no folder")
    with stage_notes.track(params()):
        make_out()
    assert "the stage goes on untracked" in capsys.readouterr().err
    assert Path("out/seed-0/x.txt").is_file()


def test_the_first_stage_notes_how_things_stood(folder: Path) -> None:
    for _ in range(2):
        with stage_notes.track(params()):
            Path("params.yaml").write_text("knob: 4\n")
    opened = json.loads(reproduction.marker(reproduction.own_key()).read_text())
    assert opened["params"] == {"knob": 3}
    assert opened["experiment"] == "e"
    assert opened["commit"] is None  # no git here


def test_notes_come_in_the_order_of_time(folder: Path) -> None:
    for _ in range(3):
        with stage_notes.track(params()):
            pass
    started = [read_note(path)["started"] for path in pending_notes()]
    assert started == sorted(started)
    assert pending_notes("another:1.0") == []
    assert pending_notes(reproduction.own_key()) == pending_notes()


def test_a_run_that_is_renamed_on_the_way_is_recorded_under_its_old_name(folder: Path) -> None:
    opened = reproduction.open_once(reproduction.own_key(), "e", {"knob": 3})
    assert opened["params"] == {"knob": 3}
    Path("params.yaml").write_text("nob: 3\n")
    with stage_notes.track(params()):
        Path("params.yaml").write_text("- : no yaml")
        make_out()
    _, note = ended()
    assert (note["command"], note["params"]) == ("two", {"knob": 3})


def test_a_stage_that_nobody_knows_is_recorded_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_STAGE", "dvc.yaml:gone@x")
    with stage_notes.track(params()):
        pass
    _, note = ended()
    assert (note["stage"], note["command"], note["outs"]) == ("gone@x", "", [])
    assert "tracking: params.yaml has no stage gone@x (any more)" in capsys.readouterr().err


@pytest.mark.parametrize("uri", ["file:/tmp/runs", "mlruns", "./runs"])
def test_a_store_that_mlflow_refuses_is_named_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with stage_notes.track(params()):
        pass
    assert (
        f"tracking: MLFLOW_TRACKING_URI: got {uri}; MLflow 3.14 and later keep no runs in plain folders"
        in capsys.readouterr().err
    )
    assert reproduction.reproduction_environment() == {reproduction.VARIABLE: reproduction.OFF}
    monkeypatch.setenv(reproduction.VARIABLE, reproduction.OFF)
    with stage_notes.track(params()):
        pass
    assert capsys.readouterr().err == ""
    assert not (folder / ".work").exists()


def test_no_note_has_a_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:s3cret-word@host:5000")
    monkeypatch.setenv("HF_TOKEN", "another-secret")
    (folder / "params.yaml").write_text("knob: another-secret\n")
    with pytest.raises(UserError), stage_notes.track(params()):
        raise UserError("http://ann:s3cret-word@host said no to another-secret")
    (folder / "read.txt").unlink()
    written = [path.read_text() for path in (folder / ".work").rglob("*") if path.is_file()]
    assert len(written) >= 3
    assert not [text for text in written if "s3cret" in text or "another" in text]
    assert any("http://***@host:5000" in text for text in written)


def test_a_stage_imports_no_mlflow() -> None:
    code = "import sys, stages.runner.command, stages.tracking.stage_notes; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_root_is_known_by_id_and_time() -> None:
    key = reproduction.own_key()
    number, _, created = key.partition(":")
    assert reproduction.is_alive(key)
    assert not reproduction.is_alive(f"{number}:{float(created) - 60}")
    assert not reproduction.is_alive(f"{2**22 + 1}:{created}")


def test_experiments_of_dvc_share_the_projects_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "__file__", "/home/me/project/.dvc/tmp/exps/tmp1/stages/tracking/paths.py")
    assert paths.project_root() == Path("/home/me/project")
