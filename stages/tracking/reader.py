"""The reader of a store's notes: each becomes part of an MLflow run, or is put aside so that others go on."""

from __future__ import annotations

import contextlib
import errno
import json
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from knowtune.common.files import whole
from knowtune.common.secrets import HIDDEN, mask_values
from stages.tracking import leftovers
from stages.tracking.addresses import StoreError
from stages.tracking.book import Book, open_book, open_client
from stages.tracking.closing import close_book, write_off
from stages.tracking.reproduction import is_alive, marker, markers, read_marker, word_file
from stages.tracking.spool import pending_notes, process_of, read_note
from stages.tracking.stage_run import begin_stage, record_stage
from stages.tracking.store import in_words, is_passing, open_experiment

PAUSE = 0.5  # seconds between two looks at the spool
TRIES = 3  # of a store that does not answer; the next stage starts another tracker
LINGER = 1.0  # seconds without a note before the work is over
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class Reader:
    """Reads a store's notes in their order.

    What fails by the note's own fault is put aside; what fails though the store answers waits, with all of its
    reproduction, for the next tracker, and others go on; where the store does not answer, all waits.

    Args:
        store: its name: its address without secrets.
        tries: how often a store that does not answer is asked.
    """

    def __init__(self, store: str, tries: int = TRIES) -> None:
        self.store, self.tries = store, tries
        self.books: dict[str, Book] = {}
        self.begun: set[str] = set()
        self.stuck: set[str] = set()  # what cannot even be put aside
        self.later: set[str] = set()  # reproductions that wait for the next tracker
        self.attempts: Counter[str] = Counter()
        self.failures = 0
        self.lines: list[str] = []  # for whoever waits at the end of a reproduction

    def work(self) -> None:
        """Read notes until nothing is left to do or the store does not answer."""
        leftovers.sweep()
        idle_since = time.monotonic()
        while self.failures < self.tries:
            if self.round():
                idle_since = time.monotonic()
            elif not self.markers() and not self.notes() and time.monotonic() - idle_since > LINGER:
                return
            elif self.failures < self.tries:
                time.sleep(PAUSE * (1 + 4 * self.failures))
        if lost := leftovers.shrink([path for path, _ in self.notes()]):
            print(f"{lost} notes were too many to keep for {self.store} and have lost their files", flush=True)

    def round(self) -> bool:
        """Read what has been handed in, then close what is over.

        Returns:
            Whether there was anything to do, and the store took it.
        """
        busy = False
        for path, note in self.notes():
            busy = True
            if not self.attempt(self.read, path, note):
                return False
        for path, opened in self.markers():
            if not is_alive(opened["key"]) and not self.unread(opened["key"]):
                busy = True
                if not self.attempt(self.give_up_waiting, path, opened):
                    return False
        return busy

    def notes(self) -> list[tuple[Path, dict[str, Any]]]:
        """List this store's notes, oldest first; what nobody can read is put aside."""
        notes = []
        for path in pending_notes():
            if path.name in self.begun | self.stuck:
                continue
            try:
                note = read_note(path)
                if note.get("reproduction") in self.later:
                    continue
                opened = read_marker(marker(note["reproduction"])) if note else None
            except FileNotFoundError as error:
                if path.suffix == ".ended":
                    self.put_aside(path, f"cannot be read: {error}")
                elif not is_alive(process_of(path)):  # of a reproduction that is closed
                    leftovers.take_away(path)
            except (OSError, ValueError) as error:
                self.put_aside(path, f"cannot be read: {type(error).__name__}: {error}")
            else:
                if opened and opened["uri"] == self.store:
                    notes.append((path, note))
        return notes

    def markers(self) -> list[tuple[Path, dict[str, Any]]]:
        """List this store's open reproductions."""
        reproductions = []
        for path in (p for p in markers() if p.name not in self.stuck):
            try:
                opened = read_marker(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                self.put_aside(path, f"cannot be read: {error}")
                continue
            if opened["uri"] == self.store and opened["key"] not in self.later:
                reproductions.append((path, opened))
        return reproductions

    def unread(self, key: str) -> bool:
        """Say whether a reproduction whose root is gone has notes to be read, or a stage that goes on all the same."""
        paths = [path for path in pending_notes(key) if path.name not in self.stuck]
        return any(".started" not in path.name or is_alive(process_of(path)) for path in paths)

    def attempt(self, action: Callable[[Path, dict[str, Any]], None], path: Path, note: dict[str, Any]) -> bool:
        """Do something with a note or marker; where it fails, see that others go on if they can.

        Returns:
            Whether to go on.
        """
        key = str(note.get("reproduction") or note.get("key"))
        try:
            action(path, note)
            self.failures = 0
            return True
        except Exception as error:
            if not isinstance(error, StoreError):
                traceback.print_exc()
            self.attempts[path.name] += 1
            to_blame = self.to_blame(error, key)
            if to_blame == "note":
                self.put_aside(path, f"cannot be recorded: {in_words(error)}", key)
                return True
            if to_blame == "moment" and self.attempts[path.name] >= self.tries:
                self.later.add(key)
                self.tell(key, {"error": f"{self.store}: {in_words(error)}; {self.kept()}"})
                return True
            self.failures += 1
            why = f"{self.store}: {in_words(error)}"
            print(why, flush=True)
            if isinstance(error, StoreError) or self.failures >= self.tries:  # else it may well be recorded yet
                self.complain(why)
            return False

    def to_blame(self, error: Exception, key: str) -> str:
        """Say what is at fault.

        Returns:
            "store" where it takes not even a small write, or a disk is full; "moment" where it may take the same thing
            later; else "note".
        """
        if isinstance(error, StoreError) or (isinstance(error, OSError) and error.errno in DISK):
            return "store"
        try:
            opened = read_marker(marker(key))
            client = open_client(opened)
            client.set_experiment_tag(open_experiment(client, opened["experiment"]), "knowtune.writable", "yes")
        except (FileNotFoundError, ValueError):
            return "note"  # without its reproduction's marker it cannot be recorded anywhere
        except Exception:
            return "store"
        return "moment" if is_passing(error) else "note"

    def put_aside(self, path: Path, why: str, key: str = "") -> None:
        """Take what cannot be recorded out of the way, and say so."""
        target = leftovers.put_aside(path)
        if target is None:
            self.stuck.add(path.name)
        line = f"{path.name} {why}; it was put into {target}" if target else f"{path.name} {why}"
        print(line, flush=True)
        self.lines.append(line)
        if key and path.name.endswith((".closed.json", marker(key).name)):  # nobody else will close it
            write_off(self.books.get(key), line)
            marker(key).unlink(missing_ok=True)
            self.tell(key, {"error": "its end could not be recorded"})

    def complain(self, why: str) -> None:
        """Tell all who wait for this store that it takes nothing."""
        for _, opened in self.markers():
            self.tell(opened["key"], {"error": f"{why}; {self.kept()}"})

    def kept(self) -> str:
        """Say what becomes of what waits."""
        who = "the next run with the same MLFLOW_TRACKING_URI" if HIDDEN in self.store else "the next run"
        return f"nothing is lost: {who} records it once the store answers"

    def tell(self, key: str, what: dict[str, Any]) -> None:
        """Leave word for the root of a reproduction, which may wait for it."""
        with contextlib.suppress(OSError), whole(word_file(key)) as part:
            part.write_text(json.dumps(mask_values({**what, "lines": self.lines})), encoding="utf-8")

    def give_up_waiting(self, _path: Path, opened: dict[str, Any]) -> None:
        """Close a reproduction whose root is gone without a word."""
        self.close(opened["key"], None, 0)

    def read(self, path: Path, note: dict[str, Any]) -> None:
        """Do what a note asks for, and take it away."""
        key = note["reproduction"]
        if path.suffix == ".ended":
            record_stage(self.book(key), note, path)
            leftovers.take_away(path)
            path.with_suffix(".started.json").unlink(missing_ok=True)
        elif path.name.endswith(".started.json"):
            begin_stage(self.book(key), note)
            self.begun.add(path.name)  # the file stays until the stage ends: it tells of a killed stage
        else:
            word = self.close(key, note["ended"], note["code"])
            path.unlink(missing_ok=True)
            self.tell(key, word)

    def book(self, key: str) -> Book:
        """Return a reproduction's book."""
        if key not in self.books:
            self.books[key] = open_book(read_marker(marker(key)))
        return self.books[key]

    def close(self, key: str, ended: float | None, code: int) -> dict[str, Any]:
        """Close a reproduction and take its marker and what its killed stages left away.

        Returns:
            What to tell its root.
        """
        word = close_book(self.book(key), ended, code)
        for path in pending_notes(key):
            if path.name.endswith(".started.json"):
                path.unlink(missing_ok=True)
        marker(key).unlink(missing_ok=True)
        del self.books[key]
        return word
