"""Which reproduction a stage belongs to: the process at the root of all its stages, by id and time of creation.

Whoever starts DVC names itself in the environment (`reproduction_environment`). For a plain `dvc repro` it is the
nearest process above the stage that is DVC.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.files import whole
from knowtune.common.secrets import mask_values
from stages.tracking.paths import reproductions, room

if TYPE_CHECKING:
    import psutil

VARIABLE = "KNOWTUNE_REPRODUCTION"
OFF = "none"  # its value where nothing is to be recorded
NOTED = {"key", "started", "command", "cwd", "commit", "changed", "uri", "experiment"}
CLOCK_STEP = 2.0  # seconds by which the system may correct its clock, and with it a process's time of creation


def reproduction_environment() -> dict[str, str]:
    """Return the environment variable that makes all stages started from here one reproduction, or keeps them quiet."""
    return {VARIABLE: OFF if why_untracked() else os.environ.get(VARIABLE) or own_key()}


def why_untracked() -> str:
    """Say why nothing can ever be recorded in the store that MLFLOW_TRACKING_URI names; "" where it can."""
    from stages.tracking.addresses import address, name_of
    from stages.tracking.probe import refusal

    why = refusal(address())
    return f"MLFLOW_TRACKING_URI: got {name_of()}; {why}" if why else ""


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
    except (psutil.NoSuchProcess, ValueError):  # gone, or no key at all
        return False


def marker(key: str) -> Path:
    """Return the file that says a reproduction is open."""
    return reproductions() / f"{key.replace(':', '-')}.json"


def markers() -> list[Path]:
    """List the open reproductions of all stores."""
    return sorted(path for path in (room() / "reproductions").glob("*.json") if not path.name.startswith("."))


def word_file(key: str) -> Path:
    """Return the file with the tracker's last word on a reproduction, for its root."""
    return room() / "words" / marker(key).name


def open_once(
    key: str, experiment: str, params: dict[str, Any], *, cwd: str = "", sweep: dict[str, str] | None = None
) -> dict[str, Any]:
    """Note how things stood when a reproduction's first stage began: commit, changed files, command, params.

    Args:
        key: of the reproduction.
        experiment: in which it is recorded.
        params: params.yaml as it is.
        cwd: its folder; that of this process by default.
        sweep: which this is the process of; else the one that the environment names, if any.

    Returns:
        What has been noted, by this stage or an earlier one; without secrets.
    """
    path = marker(key)
    with contextlib.suppress(OSError, ValueError):
        return read_marker(path)

    import time

    from stages.tracking.addresses import name_of
    from stages.tracking.sweeps import sweep_of_environment

    opened = {
        "key": key,
        "started": time.time(),
        "command": _command(key),
        "cwd": cwd or str(Path.cwd()),
        "commit": _git("rev-parse", "HEAD"),
        "changed": _git("status", "--porcelain"),
        "uri": name_of(),
        "experiment": experiment,
        "params": params,
        "sweep": sweep or sweep_of_environment(),
    }
    room()
    opened = dict(mask_values(opened))
    with whole(path) as part:
        part.write_text(json.dumps(opened), encoding="utf-8")
    return opened


def read_marker(path: Path) -> dict[str, Any]:
    """Read what was noted when a reproduction was opened.

    Raises:
        OSError, ValueError: the file is missing, or is none of ours.
    """
    opened = json.loads(path.read_text(encoding="utf-8"))
    good = isinstance(opened, dict) and isinstance(opened.get("params"), dict) and set(opened) >= NOTED
    if not good:
        raise ValueError(f"{path.name}: not a note of ours")
    return dict(opened)


def _key(process: psutil.Process) -> str:
    """Name a process for good: ids are used again."""
    return f"{process.pid}:{process.create_time()}"


def _is_dvc(process: psutil.Process) -> bool:
    """Recognise `dvc ...`, `python -m dvc ...`, `python -m flows.dvc ...` and `python /some/where/dvc ...`."""
    import psutil

    try:
        return any(Path(word).name in ("dvc", "flows.dvc") for word in process.cmdline()[:3])
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
