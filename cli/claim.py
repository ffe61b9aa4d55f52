"""One reproduction at a time in a folder: who is at work there, and waiting for one's turn.

DVC locks files, not reproductions: a second one beside the first fails half-way, in DVC's words. So whoever reproduces
claims the folder first. The claim is a lock of the system's on a file that says who holds it; it goes with its process.
A plain `dvc repro` claims nothing; DVC's own files tell of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import psutil

from knowtune.common.errors import UserError
from knowtune.common.secrets import mask

CLAIM = Path(".work/reproduction.lock")
DVC_LOCK, DVC_FILES = Path(".dvc/tmp/lock"), Path(".dvc/tmp/rwlock")
PROGRAM = re.compile(r"^(?:\S*python\S* -m )?\S*dvc(?:/__main__\.py)?(?=\s|$)")  # as DVC notes its command down
PAUSE = 0.5  # seconds between two looks
LONGEST = 200  # characters of a command
PASSING = 5.0  # seconds that a short command of DVC's, such as `dvc status`, may hold its lock
HELD: ContextVar[frozenset[Path]] = ContextVar("HELD", default=frozenset())  # folders that this line of work has


@contextmanager
def claim_folder(folder: Path, *, wait: bool) -> Iterator[None]:
    """Have a folder to oneself for the length of a block. Blocks nest: the outermost one holds the claim.

    Args:
        folder: the project or a workspace.
        wait: until it is free.

    Raises:
        UserError: another reproduction is at work there, and `wait` is not set.
    """
    held = HELD.get()
    if folder.resolve() in held:
        yield
        return
    path = folder / CLAIM
    path.parent.mkdir(parents=True, exist_ok=True)
    begun, shown = time.monotonic(), ""
    with path.open("a+", encoding="utf-8") as file:
        while who := _in_the_way(file, folder):
            passing = who.startswith("dvc") and time.monotonic() - begun < PASSING
            if not wait and not passing:
                raise UserError(f"{folder}: {who} is at work here; wait for it to end, or add --wait (make: WAIT=1)")
            if wait and who != shown:
                print(f"waiting for {who}", flush=True)
                shown = who
            time.sleep(PAUSE)
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "command": _own_command()}, file)
        file.flush()
        token = HELD.set(held | {folder.resolve()})
        try:
            yield
        finally:
            HELD.reset(token)
            file.seek(0)
            file.truncate()


def holder(folder: Path) -> str:
    """Say who reproduces in a folder: the command, its process, since when; "" where nobody does."""
    path = folder / CLAIM
    if not path.is_file():
        return dvc_at_work(folder)
    with path.open("a+", encoding="utf-8") as file:
        return _in_the_way(file, folder)


def _in_the_way(file: Any, folder: Path) -> str:
    """Lock the claim, and say who has it or, without one, works there by DVC; "" where the way is free."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        with suppress(ValueError, KeyError, TypeError):
            known = json.loads(file.read())
            return _describe(str(known["command"]), int(known["pid"]))
        return "another reproduction"  # it has not written its name yet
    who = dvc_at_work(folder)
    if who:
        fcntl.flock(file, fcntl.LOCK_UN)
    return who


def dvc_at_work(folder: Path) -> str:
    """Say which DVC command holds files of a folder, or its lock."""
    with suppress(OSError, ValueError, AttributeError, TypeError, KeyError):
        kinds = json.loads((folder / DVC_FILES).read_text(encoding="utf-8"))
        infos = [*kinds.get("write", {}).values(), *(info for read in kinds.get("read", {}).values() for info in read)]
        for info in infos:
            if psutil.pid_exists(int(info["pid"])):
                return _describe(PROGRAM.sub("dvc", str(info["cmd"])), int(info["pid"]))
    with suppress(OSError, ValueError), (folder / DVC_LOCK).open("r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            number = file.read().split()
            return _describe("dvc", int(number[0]) if number else 0)
    return ""


def _describe(command: str, number: int) -> str:
    """Name a process: what it runs, its id, and since when."""
    try:
        since = time.strftime("%H:%M:%S", time.localtime(psutil.Process(number).create_time()))
    except (psutil.Error, ValueError):
        return f"{command} (process {number})"
    return f"{command} (process {number}, since {since})"


def _own_command() -> str:
    """Return how this command was called."""
    if run := os.environ.get("PREFECT__FLOW_RUN_ID"):  # a worker's command says nothing of what it runs
        return f"a deployed run ({run})"
    words = " ".join(["python", *sys.orig_argv[1:]]).split()  # on one line
    return mask(" ".join(words))[:LONGEST]
