"""The notes that stages hand in: written, listed and read. What becomes of those that nobody can record: `leftovers`.

A note is there as a whole or not at all, and holds no secret.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from knowtune.common.files import whole
from stages.tracking.paths import room

NOTE, LOCK, LINKS = "note.json", "dvc.lock", "links"
INTERRUPTED = 130  # the exit code after Ctrl-C


def hand_in(note: Mapping[str, Any], ending: str, fill: Callable[[Path], object]) -> None:
    """Put a note into the spool, as a whole or not at all."""
    with whole(room() / "spool" / f"{note['id']}.{ending}") as part:
        fill(part)


def pending_notes(key: str | None = None) -> list[Path]:
    """List what has been handed in and not been read, oldest first: of one reproduction, or all."""
    paths = sorted(path for path in (room() / "spool").iterdir() if not path.name.startswith("."))
    return paths if key is None else [path for path in paths if _belongs(path, key)]


def _belongs(path: Path, key: str) -> bool:
    """Say whether a note is one of a reproduction's; one that cannot be read is nobody's."""
    with suppress(OSError, ValueError):
        return read_note(path).get("reproduction") == key
    return False


def process_of(path: Path) -> str:
    """Return the key of the process that runs the stage of a note."""
    with suppress(OSError, ValueError):
        return str(read_note(path).get("process", ""))
    return ""


def read_note(path: Path) -> dict[str, Any]:
    """Read a note; one that has just been taken away is empty.

    Raises:
        OSError, ValueError: it cannot be read, or is no note.
    """
    try:
        value = json.loads((path / NOTE if path.suffix == ".ended" else path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if os.path.lexists(path):
            raise
        return {}
    if not isinstance(value, dict) or not isinstance(value.get("reproduction"), str):
        raise ValueError("not a note")
    return value
