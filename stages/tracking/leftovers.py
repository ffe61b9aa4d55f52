"""What is left in the spool: notes that have been read, cannot be read, or wait for a store that does not answer."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from knowtune.common.files import whole
from stages.tracking.paths import room
from stages.tracking.reproduction import is_alive
from stages.tracking.spool import LINKS, NOTE, read_note

STALE = 3600.0  # seconds
WAITING = 2**30  # bytes that notes may hold which are kept for later
MOST = 2000  # notes that are kept for later
DONE = "done"


def take_away(path: Path) -> None:
    """Remove a note that has been recorded; killed half-way, what is left has another name and is swept away."""
    gone = path.with_name(f".{path.name}.{DONE}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(gone)
        _remove(gone)


def put_aside(path: Path) -> Path | None:
    """Move what cannot be recorded out of the way.

    Returns:
        Where it lies now; None where it cannot be moved.
    """
    target = room() / "refused" / path.name
    try:
        if os.path.lexists(target):
            _remove(target)
        path.rename(target)
    except OSError:
        return None
    shrink(sorted((room() / "refused").iterdir()))
    return target


def sweep() -> None:
    """Remove what was left by processes that were killed: notes half made or half removed, unread words."""
    with contextlib.suppress(OSError):
        for part in (room() / "spool").glob(".*"):
            if part.name.endswith(f".{DONE}") or time.time() - part.lstat().st_mtime > STALE:
                _remove(part)
        for word in (room() / "words").glob("*.json"):
            if not is_alive(word.stem.replace("-", ":", 1)):
                word.unlink()


def shrink(notes: Iterable[Path]) -> int:
    """Hold what waits within bounds: of the oldest, first the files go, which leaves numbers and params, then all.

    Args:
        notes: oldest first.

    Returns:
        How many have lost something.
    """
    paths, lost = list(notes), 0
    sizes = [_bytes_alone(path / LINKS) for path in paths]
    excess, too_many = sum(sizes) - WAITING, len(paths) - MOST
    for i, path in enumerate(paths):
        if i < too_many:
            take_away(path)
        elif excess > 0 and sizes[i]:
            _drop_files(path)
        else:
            continue
        excess -= sizes[i]
        lost += 1
    return lost


def _drop_files(path: Path) -> None:
    """Take the files out of a note; the note says that it has none."""
    try:
        note = read_note(path) | {"deps": [], "outs": [], "shed": True}
        with whole(path / NOTE) as part:
            part.write_text(json.dumps(note), encoding="utf-8")
        shutil.rmtree(path / LINKS, ignore_errors=True)
    except (OSError, ValueError):
        take_away(path)


def _bytes_alone(path: Path) -> int:
    """Count the bytes below a note that lie nowhere else: what a link leads to counts for its owner."""
    stats = [file.lstat() for file in path.rglob("*")] if path.is_dir() and not path.is_symlink() else []
    return sum(stat.st_size for stat in stats if stat.st_nlink == 1)


def _remove(path: Path) -> None:
    """Remove a file or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
