"""The end of a reproduction, for those who know when it is: wait until everything is recorded, and say where."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from knowtune.artefacts import whole
from stages.tracking import spool
from stages.tracking.places import room
from stages.tracking.reproduction import VARIABLE, marker, own_key

PATIENCE = 120.0  # seconds; what is left is recorded in the background


def drain(folder: Path, timeout: float = PATIENCE, code: int = 0) -> None:
    """Close the reproduction that this process is the root of, wait until it is recorded, print where to look.

    Args:
        folder: the project or workspace that was reproduced.
        timeout: seconds to wait at most; the tracker goes on in the background.
        code: DVC's exit code; the parent run is FAILED unless it is 0, KILLED when it is that of Ctrl-C.
    """
    key = own_key()
    if os.environ.get(VARIABLE, key) != key or not marker(key).is_file():
        return  # another process is the root, or no stage was tracked
    closing = {"reproduction": key, "code": code, "ended": time.time(), "cwd": str(folder.resolve())}
    path = room() / "spool" / f"{int(closing['ended'] * 1e6)}-{os.getpid()}.closed.json"  # type: ignore[operator]
    with whole(path) as part:
        part.write_text(json.dumps(closing), encoding="utf-8")
    end = time.monotonic() + timeout
    while marker(key).is_file() and time.monotonic() < end and not _error():
        spool.wake()
        time.sleep(0.1)
    _tell(key)


def _tell(key: str) -> None:
    """Print one line: where the run is, or why it is not there (yet)."""
    log = os.path.relpath(room() / "log")
    if error := _error():
        print(f"tracking: {error}; details: {log}", file=sys.stderr)
    elif marker(key).is_file():
        print(f"tracking: {len(spool.pending(key))} stages are still being recorded in the background; log: {log}")
    else:
        last = _read(room() / "last.json")
        where = "`make serve` shows it" if last.get("uri", "").startswith("sqlite") else last.get("uri")
        print(f"tracked: experiment {last.get('experiment')}, run {last.get('name')!r}; {where}")


def _error() -> str:
    """Return what the tracker last stumbled over, in one line; nothing when it is well."""
    return str(_read(room() / "error.json").get("error", ""))


def _read(path: Path) -> dict[str, Any]:
    """Read a small JSON file that may be missing."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
