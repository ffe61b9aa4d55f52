"""Two reproductions in one folder: the second one is told who is at work, or waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cli import claim
from cli.claim import claim_folder, holder
from knowtune.common.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0  # seconds
STARTED: list[subprocess.Popen[str]] = []
HOLD = """
import sys, time
from pathlib import Path
from cli.claim import claim_folder
with claim_folder(Path(sys.argv[1]), wait="--wait" in sys.argv):
    print("mine", flush=True)
    while not (Path(sys.argv[1]) / "go").exists(): time.sleep(0.01)
"""
DVC = """
import sys
from pathlib import Path
from dvc.lock import make_lock
with make_lock(sys.argv[1] + "/.dvc/tmp/lock"):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """What a test has started; a test that fails leaves nothing behind."""
    yield STARTED
    while STARTED:
        STARTED[-1].kill()
        STARTED.pop().communicate()


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    STARTED.append(subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, text=True, **pipes))  # type: ignore[call-overload]
    return STARTED[-1]


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def end(process: subprocess.Popen[str]) -> int:
    STARTED.remove(process)
    process.communicate(timeout=PATIENCE)
    return process.returncode


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.01)


def test_the_second_is_told_who_is_at_work_and_one_that_waits_has_its_turn(tmp_path: Path) -> None:
    first = start(HOLD, str(tmp_path))
    assert line(first) == "mine\n"
    since = time.strftime("%H:%M:%S", time.localtime(psutil.Process(first.pid).create_time()))
    with pytest.raises(UserError, match=rf"python -c .*\(process {first.pid}, since {since}\) is at work here.*--wait"):
        claim_folder(tmp_path, wait=False).__enter__()
    waiting = start(HOLD, str(tmp_path), "--wait")
    assert f"(process {first.pid}, since {since})" in line(waiting)
    (tmp_path / "go").touch()
    assert line(waiting) == "mine\n"
    assert (end(first), end(waiting)) == (0, 0)
    assert holder(tmp_path) == ""


def test_a_claim_goes_with_its_process(tmp_path: Path) -> None:
    first = start(HOLD, str(tmp_path))
    assert line(first) == "mine\n"
    assert f"process {first.pid}" in holder(tmp_path)
    first.send_signal(signal.SIGKILL)
    end(first)
    assert holder(tmp_path) == ""
    with claim_folder(tmp_path, wait=False):
        assert json.loads((tmp_path / claim.CLAIM).read_text())["pid"] == os.getpid()
    assert (tmp_path / claim.CLAIM).read_text() == ""


def test_a_claim_whose_words_are_damaged_is_one_all_the_same(tmp_path: Path) -> None:
    first = start(HOLD, str(tmp_path))
    assert line(first) == "mine\n"
    (tmp_path / claim.CLAIM).write_text("{")
    assert holder(tmp_path) == "another reproduction"
    (tmp_path / "go").touch()
    assert end(first) == 0


def test_folders_do_not_stand_in_each_others_way(tmp_path: Path) -> None:
    with claim_folder(tmp_path / "a", wait=False), claim_folder(tmp_path / "b", wait=False):
        assert holder(tmp_path / "a") != ""
    assert holder(tmp_path / "c") == ""


def test_a_claim_within_a_claim_is_the_same_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with claim_folder(tmp_path, wait=False):
        with claim_folder(Path(), wait=False):
            pass
        assert holder(tmp_path) != ""
    assert holder(tmp_path) == ""


def test_plain_dvc_is_seen_by_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "PASSING", 0.0)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    dvc = start(DVC, str(tmp_path))
    assert line(dvc) == "mine\n"
    with pytest.raises(UserError, match=rf"dvc \(process {dvc.pid}, since .*\) is at work here"):
        claim_folder(tmp_path, wait=False).__enter__()
    for program in ("/usr/bin/python -m dvc", "/x/dvc/__main__.py", "/x/bin/dvc", "dvc"):
        info = {"pid": dvc.pid, "cmd": f"{program} repro base"}
        for kinds in ({"write": {"a": info}}, {"read": {"a": [info]}}):
            (tmp_path / ".dvc/tmp/rwlock").write_text(json.dumps(kinds))
            assert holder(tmp_path).startswith(f"dvc repro base (process {dvc.pid}, since")
    end(dvc)
    until(lambda: not holder(tmp_path))  # what a killed one has left there counts for nothing
    for text in ("", "{", "[]", '{"read": 1}', '{"write": {"a": 1}}'):
        (tmp_path / ".dvc/tmp/rwlock").write_text(text)
        assert holder(tmp_path) == ""
