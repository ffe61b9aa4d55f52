"""Which reproduction a stage belongs to: the process at the root of all its stages, by id and time of creation.

Whoever starts DVC names itself in the environment (`reproduction_environment`). For a plain `dvc repro` it is the
nearest process above the stage that is DVC.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.artefacts import whole
from stages.tracking.places import reproductions, room

if TYPE_CHECKING:
    import psutil

VARIABLE = "KNOWTUNE_REPRODUCTION"
CLOCK_STEP = 2.0  # seconds by which the system may correct its clock, and with it a process's time of creation


def reproduction_environment() -> dict[str, str]:
    """Return the environment variable that makes all stages started from here one reproduction."""
    return {VARIABLE: os.environ.get(VARIABLE) or own_key()}


def own_key() -> str:
    """Return the key of a reproduction whose root is this process."""
    import psutil

    return _key(psutil.Process())


def join() -> None:
    """Find the stage's reproduction, as long as DVC's process is above it: in the warm process it no longer is."""
    if "DVC_STAGE" in os.environ and VARIABLE not in os.environ:
        import psutil

        above = psutil.Process().parents()
        root = next((process for process in above if _is_dvc(process)), above[0])
        os.environ[VARIABLE] = _key(root)


def is_alive(key: str) -> bool:
    """Say whether a reproduction's root still runs."""
    import psutil

    number, _, created = key.partition(":")
    try:
        process = psutil.Process(int(number))
        same = abs(process.create_time() - float(created)) < CLOCK_STEP
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def marker(key: str) -> Path:
    """Return the file that says a reproduction is open."""
    return reproductions() / f"{key.replace(':', '-')}.json"


def open_once(key: str, experiment: str, params: dict[str, Any]) -> None:
    """Note how things stood when a reproduction's first stage began: commit, changed files, command, params."""
    path = marker(key)
    if path.exists():
        return
    import time

    opened = {
        "key": key,
        "started": time.time(),
        "command": _command(key),
        "cwd": str(Path.cwd()),
        "commit": _git("rev-parse", "HEAD"),
        "changed": _git("status", "--porcelain"),
        "uri": os.environ.get("MLFLOW_TRACKING_URI"),
        "experiment": experiment,
        "params": params,
    }
    room()
    with whole(path) as part:
        part.write_text(json.dumps(opened), encoding="utf-8")


def _key(process: psutil.Process) -> str:
    """Name a process for good: ids are used again."""
    return f"{process.pid}:{process.create_time()}"


def _is_dvc(process: psutil.Process) -> bool:
    """Recognise `dvc ...`, `python -m dvc ...` and `python /some/where/dvc ...`."""
    import psutil

    try:
        return any(Path(word).name == "dvc" for word in process.cmdline()[:3])
    except psutil.Error:
        return False


def _command(key: str) -> list[str]:
    """Return the root's command line, without the paths of programs."""
    import psutil

    try:
        words = psutil.Process(int(key.partition(":")[0])).cmdline()
    except psutil.Error:
        return []
    return [Path(word).name if i < 2 else word for i, word in enumerate(words)]


def _git(*arguments: str) -> str | None:
    """Return what git says, or None where it has nothing to say."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.rstrip() if done.returncode == 0 else None
