"""Where tracking keeps its things, and the lock that lets one process in."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

ROOM = Path(".work/tracking")
EXPERIMENTS = (".dvc", "tmp", "exps")  # below it DVC lays out the experiments of `dvc exp run --queue` and `--temp`


def project_root() -> Path:
    """Return the folder whose store holds all runs: the project's own, for workspaces and DVC's experiments too."""
    root = Path(__file__).resolve().parents[2]
    for i in range(len(root.parts)):
        if root.parts[i : i + 3] == EXPERIMENTS:
            return Path(*root.parts[:i])
    return root


def room() -> Path:
    """Return tracking's folder; it is made when missing."""
    folder = project_root() / ROOM
    for name in ("spool", "reproductions", "refused", "words"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def reproductions() -> Path:
    """Return the folder with a file for every open reproduction; it is not made."""
    return project_root() / ROOM / "reproductions"


@contextlib.contextmanager
def hold_lock(name: str, *, wait: bool) -> Iterator[bool]:
    """Hold a lock of tracking's for the length of a block; it goes with the process that holds it.

    Args:
        name: of the lock.
        wait: until it is free; else the block runs without it.

    Yields:
        Whether the lock is held.
    """
    with (room() / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
