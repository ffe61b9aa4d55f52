"""DVC's remote around a run, with a real DVC and remotes in folders."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.remote import bring, find_remote, send
from knowtune.common.errors import TransientError, UserError

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC's own, of pygtrie
PIPELINE = "stages:\n  one:\n    cmd: cat mine > out\n    deps: [mine]\n    outs: [out]\n"
TRACKED = "outs:\n- md5: b026324c6904b2a9cb4b88d6d61c81d1\n  size: 2\n  hash: md5\n  path: mine\n"  # by `dvc add mine`


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with data that a .dvc file tracks, one stage, and no remote."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mine").write_text("1\n")
    (folder / "mine.dvc").write_text(TRACKED)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    return folder


def dvc(folder: Path, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *words], cwd=folder, check=True)


def set_remote(folder: Path, url: str) -> None:
    (folder / ".dvc/config").write_text(
        f"[core]\n    no_scm = True\n    remote = r\n['remote \"r\"']\n    url = {url}\n"
    )


def test_what_is_sent_comes_back_where_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    dvc(folder, "add", "-q", "mine")
    assert (folder / "mine.dvc").read_text() == TRACKED
    assert find_remote(folder) is None
    set_remote(folder, str(tmp_path / "store"))
    remote = find_remote(folder)
    assert remote is not None
    assert (remote.name, remote.sources) == ("r", ("mine.dvc",))
    dvc(folder, "repro", "-q")
    lines: list[str] = []
    send(folder, lines.append)
    assert any("pushed" in line for line in lines)
    shutil.rmtree(folder / ".dvc/cache")
    (folder / "mine").unlink()
    (folder / "out").write_text("of a run that was killed")
    bring(folder, remote, lines.append)
    assert (folder / "mine").read_text() == "1\n"
    assert (folder / "out").read_text() == "of a run that was killed"  # the stages' business
    (folder / "mine").write_text("edited by hand")
    with pytest.raises(UserError, match="dvc checkout failed"):
        bring(folder, remote, lines.append)
    assert (folder / "mine").read_text() == "edited by hand"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://user:hush-hush@127.0.0.1:9/x", "DVC's remote 'r': ConnectionRefusedError: "),
        ("s3://bucket/x", "DVC's remote 'r': s3 is supported, but requires 'dvc-s3' to be installed; nothing was run"),
    ],
)
def test_a_remote_that_does_not_answer_is_told_before_anything_runs(folder: Path, url: str, text: str) -> None:
    set_remote(folder, url)
    with pytest.raises(TransientError) as caught:
        find_remote(folder)
    assert str(caught.value).startswith(text)
    assert "hush" not in str(caught.value)
