"""Finished pieces of a task on disk: one process writes them, any can read them."""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes from a task's pieces inside the context; exit where one is at them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{name}: another process is at it in {folder}")
        yield


class Store:
    """Finished pieces of a task: a file of JSON lines, and small files for masks."""

    def __init__(self, folder: Path, name: str) -> None:
        """Open the file and read what is there; a line that was cut short is left out."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.masks = folder / f"{name}.jsonl", folder / "masks"
        self.masks.mkdir(exist_ok=True)
        self.records: dict[str, dict[str, Any]] = {}
        for line in self.path.read_text().split("\n")[:-1] if self.path.exists() else ():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            self.records[record["key"]] = record

    def add(self, record: dict[str, Any]) -> None:
        """Keep a finished piece."""
        self.records[record["key"]] = record
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
