"""The tracker: one process per project that turns stages' notes into MLflow runs; nobody else imports MLflow.

The first stage of a reproduction starts it. It ends when every reproduction's root is gone, or has closed its own, and
no note is left. Whatever kills it, the notes stay, and the next tracker goes on with them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from knowtune.artefacts import whole
from stages.tracking import spool
from stages.tracking.book import Book, open_book
from stages.tracking.closing import close_book
from stages.tracking.places import locked, room
from stages.tracking.reproduction import is_alive, marker
from stages.tracking.stage_run import begin_stage, record_stage
from stages.tracking.store import open_store

PAUSE = 0.5  # seconds between two looks at the spool
TRIES = 3  # of a store that does not answer, once nobody is left who would start another tracker
LINGER = 1.0  # seconds that a tracker waits for another note before it ends
ERROR = "error.json"
STEP_BACK = 15  # niceness: what is trained comes first


class Tracker:
    """Reads notes in their order."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.begun: set[str] = set()
        self.failures = 0

    def work(self) -> None:
        """Read notes until nothing is left to do or the store does not answer."""
        spool.sweep()
        idle_since = time.monotonic()
        while self.failures < TRIES:
            busy = self.round()
            if busy:
                idle_since = time.monotonic()
            elif not _markers() and not spool.pending() and time.monotonic() - idle_since > LINGER:
                return
            else:
                time.sleep(PAUSE * (1 + 4 * self.failures))

    def round(self) -> bool:
        """Read what has been handed in, then close what is over.

        Returns:
            Whether there was anything to do.
        """
        busy = False
        for path in spool.pending():
            if path.name not in self.begun:
                busy = True
                if not self.attempt(self.read, path):
                    return False
        for path in _markers():
            key = _key(path)
            if not is_alive(key) and not [p for p in spool.pending(key) if ".started" not in p.name]:
                busy = True
                if not self.attempt(self.give_up_waiting, path):
                    return False
        return busy

    def attempt(self, action: Callable[[Path], None], path: Path) -> bool:
        """Do something with a note or marker; what fails though the store answers is put aside, so that others go on.

        Returns:
            Whether to go on.
        """
        try:
            action(path)
            self.failures = 0
            return True
        except Exception as error:
            traceback.print_exc()
            told = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
            if self.store_answers(path):
                place = room() / "refused" / path.name
                shutil.rmtree(place, ignore_errors=True)
                path.replace(place)
                _remember({"error": f"{told}; what could not be recorded was put into {place}"}, ERROR)
                return True
            self.failures += 1
            if self.failures == TRIES:
                _remember({"error": f"{told}; nothing is lost: the next run records it"}, ERROR)
            return False

    def give_up_waiting(self, path: Path) -> None:
        """Close a reproduction whose root is gone without a word."""
        self.close(_key(path), None, 0)

    def read(self, path: Path) -> None:
        """Do what a note asks for, and take it away."""
        note = spool.read_note(path)
        if not note:
            return  # the stage's end was handed in meanwhile, and took the beginning away
        key = note["reproduction"]
        if path.suffix == ".ended":
            record_stage(self.book(key), note, path)
            shutil.rmtree(path)
            path.with_suffix(".started.json").unlink(missing_ok=True)
        elif path.name.endswith(".started.json"):
            begin_stage(self.book(key), note)
            self.begun.add(path.name)  # the file stays until the stage ends: a killed stage is told by it
        else:
            self.close(key, note["ended"], note["code"])
            path.unlink()

    def book(self, key: str) -> Book:
        """Return a reproduction's book."""
        if key not in self.books:
            self.books[key] = open_book(json.loads(marker(key).read_text(encoding="utf-8")))
        return self.books[key]

    def close(self, key: str, ended: float | None, code: int) -> None:
        """Close a reproduction and take its marker and what its killed stages left away."""
        told = close_book(self.book(key), ended, code)
        _remember(told, "last.json")
        for path in spool.pending(key):
            if path.name.endswith(".started.json"):
                path.unlink(missing_ok=True)
        marker(key).unlink(missing_ok=True)
        del self.books[key]

    def store_answers(self, path: Path) -> bool:
        """Say whether the store is there, so that it must be the note that is wrong."""
        try:
            opened = json.loads(marker(_key(path)).read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError):
            return True  # without its reproduction's marker a note cannot be recorded anywhere
        try:
            open_store(opened["uri"])
        except Exception:
            return False
        return True


def _key(path: Path) -> str:
    """Return the reproduction that a note or a marker belongs to."""
    note = spool.read_note(path)
    return str(note["reproduction"] if "reproduction" in note else note["key"])


def _markers() -> list[Path]:
    """List the open reproductions."""
    return sorted(p for p in (room() / "reproductions").glob("*.json") if not p.name.startswith("."))


def _remember(value: dict[str, Any], name: str) -> None:
    """Write a small file for whoever waits."""
    with whole(room() / name) as part:
        part.write_text(json.dumps(value), encoding="utf-8")


def main() -> int:
    """Work alone; a note handed in just when the last round was over is read too."""
    os.nice(STEP_BACK)
    while True:
        with locked("tracker", wait=False) as alone:
            if not alone:
                return 0
            print(f"tracker {os.getpid()} starts", flush=True)
            (room() / ERROR).unlink(missing_ok=True)
            tracker = Tracker()
            tracker.work()
            print(f"tracker {os.getpid()} ends after {time.process_time():.1f} s of CPU", flush=True)
            if tracker.failures:
                return 1
        if not spool.pending():
            return 0


if __name__ == "__main__":
    sys.exit(main())
