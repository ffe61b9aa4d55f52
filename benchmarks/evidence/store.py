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
def lock(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes from a task's pieces inside the context; exit where one is at them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{name}: another process is at it in {folder}")
        yield


def read_pieces(path: Path) -> list[dict[str, Any]]:
    """Read all pieces of a task; a line that was cut short is left out."""
    pieces = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else ():
        try:
            pieces.append(json.loads(line))
        except ValueError:
            continue
    return pieces


def read_latest(path: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Read the pieces of the last settings: the pristine base's, None where there is none, and all of them."""
    pieces = read_pieces(path)
    base = next((piece for piece in reversed(pieces) if piece["what"] == "base"), None)
    return base, [piece for piece in pieces if base is not None and piece["identity"] == base["identity"]]


class Store:
    """Finished pieces of a task: a file of JSON lines, and small files for masks."""

    def __init__(self, folder: Path, name: str) -> None:
        """Open the file and read what is there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.masks = folder / f"{name}.jsonl", folder / "masks"
        self.masks.mkdir(exist_ok=True)
        self.records: dict[str, dict[str, Any]] = {piece["key"]: piece for piece in read_pieces(self.path)}

    def add(self, record: dict[str, Any]) -> None:
        """Keep a finished piece."""
        self.records[record["key"]] = record
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
