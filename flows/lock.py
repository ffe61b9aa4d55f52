"""The entries of dvc.lock as text: which there are, and in which order.

Nothing else is imported here, so that a process that runs one stage begins at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from knowtune.common.files import whole

ENTRY = re.compile(r"^  (?P<stage>[^ \n][^\n]*):\n(?:    .*\n?)*", re.MULTILINE)  # a stage and its lines


def lock_entries(folder: Path) -> list[str]:
    """Name the stages that dvc.lock remembers, in its order."""
    lock = folder / "dvc.lock"
    return [entry["stage"] for entry in ENTRY.finditer(lock.read_text(encoding="utf-8"))] if lock.is_file() else []


def sort_lock(folder: Path, known: list[str], order: Iterable[str]) -> None:
    """Bring dvc.lock into the order that a sequential run leaves; parallel stages write it in the order they end.

    Args:
        folder: the project or a workspace.
        known: the entries that were there before, in their order; they keep their places.
        order: the stages in DVC's order; new entries follow in it.
    """
    from dvc.repo import Repo

    lock = folder / "dvc.lock"
    if not lock.is_file():
        return
    with Repo(str(folder)) as repo, repo.lock:
        text = lock.read_text(encoding="utf-8")
        entries = {entry["stage"]: entry[0] for entry in ENTRY.finditer(text)}
        names = dict.fromkeys(name for name in (*known, *order, *entries) if name in entries)
        rest = iter(names)
        ordered = ENTRY.sub(lambda _: entries[next(rest)], text)
        if ordered != text:
            with whole(lock) as part:
                part.write_text(ordered, encoding="utf-8")
