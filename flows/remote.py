"""DVC's remote around a run: brought here before it, sent there after it, where one is configured.

What is brought goes into DVC's cache, where the stages take it from, and files that a `.dvc` file tracks to their
places. Nothing else in the folder is touched, so a run that was killed in the middle goes on from what it left.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowtune.common.errors import TransientError, UserError
from knowtune.common.secrets import mask
from stages.tracking.probe import unreachable

ANSWER = 60.0  # seconds that a remote has to answer one question
LAST_LINES = 5
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Remote:
    """A folder's remote, as DVC's settings name it."""

    name: str
    sources: tuple[str, ...]  # the .dvc files, whose data a person keeps and no stage makes


def find_remote(folder: Path) -> Remote | None:
    """Return the remote that DVC pulls from by default in a folder; None where there is none.

    Raises:
        UserError: it does not answer, its settings are wrong, or a package for it is missing.
    """
    from dvc.repo import Repo

    with chdir(folder), Repo() as repo:
        name = repo.config["core"].get("remote")
        if not name:
            return None
        if fault := _fault(repo):
            raise TransientError(
                f"DVC's remote {name!r}: {mask(fault)}; nothing was run. `dvc remote list` shows its address; "
                "`dvc config --unset core.remote` does without one"
            )
        sources = (Path(stage.path) for stage in repo.index.stages if stage.is_data_source)
        return Remote(str(name), tuple(sorted({str(path.relative_to(folder.resolve())) for path in sources})))


def _fault(repo: Any) -> str:
    """Ask a remote one small question, and say why it did not answer; "" where it did."""
    faults = [f"no answer within {ANSWER:g} s"]

    def ask() -> None:
        try:
            remote = repo.cloud.get_remote_odb()
            url = str(remote.path)
            if url.startswith(("http://", "https://")):  # DVC takes a server that is gone for one without the file
                faults.append(unreachable(url))
            else:
                remote.fs.exists(remote.path)
                faults.append("")
        except Exception as error:  # every kind of store has errors of its own
            faults.append(f"{error or type(error).__name__}")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER)
    return faults[-1]


def bring(folder: Path, remote: Remote, tell: Tell, update: tuple[str, ...] = ()) -> None:
    """Bring what the remote has and this machine has not.

    Args:
        folder: the project or a workspace.
        remote: of the folder.
        tell: takes each line that DVC prints.
        update: `.dvc` files of imported data to bring up to date with their source first.

    Raises:
        UserError: DVC cannot; a file that it tracks was changed here, say.
    """
    # A remote need not have all: what is missing is made again. Results of other machines are looked up too.
    _dvc(folder, "fetch --run-cache", tell)
    if remote.sources:
        _dvc(folder, "checkout", tell, *remote.sources)
    if update:
        _dvc(folder, "update", tell, *update)


def send(folder: Path, tell: Tell) -> None:
    """Send what this machine has and the remote has not.

    Raises:
        UserError: DVC cannot; what has been made is kept here.
    """
    _dvc(folder, "push --run-cache", tell)


def _dvc(folder: Path, command: str, tell: Tell, *arguments: str) -> None:
    """Run a command of DVC's, and hand on what it prints.

    Raises:
        UserError: it failed; with its last lines.
    """
    words = [sys.executable, "-m", "dvc", *command.split(), *arguments]
    lines: list[str] = []
    with subprocess.Popen(
        words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if text := mask(line.rstrip()):
                    tell(text)
                    lines.append(text)
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise UserError(f"dvc {command} failed:\n" + "\n".join(lines[-LAST_LINES:]))
