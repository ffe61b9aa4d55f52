"""The start of the tracker, by whoever has handed in a note."""

from __future__ import annotations

import subprocess
import sys

from stages.tracking.addresses import lock_of, name_of
from stages.tracking.paths import hold_lock, project_root, room


def wake() -> None:
    """Start the tracker of this process's store, unless one runs."""
    if process := start_tracker():
        process.returncode = 0  # nobody waits for it; without this Python would complain


def start_tracker() -> subprocess.Popen[bytes] | None:
    """Start the tracker, unless one runs, and return its process."""
    with hold_lock(lock_of("tracker", name_of()), wait=False) as free:
        pass
    if not free:
        return None
    with (room() / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "stages.tracking.tracker"],
            cwd=project_root(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives the stage, and Ctrl-C is not for it
        )
