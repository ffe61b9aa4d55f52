"""A whole copy of dvc.lock, kept while DVC works: DVC rewrites the file in place, and a kill in between cuts it short.

Where a cut happened cannot always be seen (a cut between two entries leaves a good file), but it costs no more than the
entries behind it: DVC finds their results in its run cache.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from knowtune.common.errors import UserError
from knowtune.common.files import whole
from stages.core.params import read_yaml

LOCK = Path("dvc.lock")
KEPT = Path(".work/dvc.lock.kept")
END = re.compile(r"\n    outs:\n(?:    .*\n)*      (?:size|nfiles): \d+\n\Z")  # how DVC ends its last entry

TAIL = 20_000  # bytes, which hold the last entry's outs


def keep_lock(folder: Path) -> None:
    """Copy dvc.lock, unless it is being written or was cut short."""
    lock, kept = folder / LOCK, folder / KEPT
    text = lock.read_bytes() if lock.is_file() else b""
    is_whole = text.startswith(b"schema: ") and END.search(text[-TAIL:].decode("utf-8", "replace"))
    if is_whole and not (kept.is_file() and kept.read_bytes() == text):
        kept.parent.mkdir(exist_ok=True)
        with whole(kept) as part:
            part.write_bytes(text)


def mend_lock(folder: Path) -> None:
    """Put the kept copy in the place of a dvc.lock that was cut short, and say so.

    Raises:
        UserError: the file is damaged and there is no copy, or git left both sides of a merge in it.
    """
    lock, kept = folder / LOCK, folder / KEPT
    if not lock.is_file():
        return
    copy = kept.read_bytes() if kept.is_file() else b""
    text = lock.read_bytes()
    if text == copy:
        return
    cut = not text.endswith(b"\n") or (len(text) < len(copy) and copy.startswith(text))
    fault = f"{lock.name}: cut short" if cut else _fault(lock)
    if not fault:
        return
    if not copy:
        raise UserError(
            f"{fault}; take it from git (`git checkout {LOCK}`) or remove it: results that DVC's cache still has are "
            "found again, the others are made again"
        )
    with whole(lock) as part:
        part.write_bytes(copy)
    print(f"{fault}; the last whole copy of {LOCK} stands there again", file=sys.stderr)


def _fault(lock: Path) -> str:
    """Say what is wrong with dvc.lock, "" where DVC can read it; a merge is the user's to finish."""
    try:
        value = read_yaml(lock)
    except UserError as error:
        if "merge" in str(error):
            raise UserError(f"{error}, or remove the file: results that DVC's cache has are found again") from None
        return str(error)
    stages = value.get("stages")
    if not isinstance(stages, dict):
        return f"{lock}: no stages in it"
    wrong = [str(name) for name, entry in stages.items() if not _is_entry(entry)]
    return f"{lock}: half an entry of {', '.join(wrong)}" if wrong else ""


def _is_entry(entry: Any) -> bool:
    """Tell whether an entry has what DVC wants of it."""
    if not isinstance(entry, dict) or not isinstance(entry.get("cmd"), str | list):
        return False
    lists = [entry[key] for key in ("deps", "outs") if key in entry]
    return all(isinstance(items, list) and all(map(_is_item, items)) for items in lists)


def _is_item(item: Any) -> bool:
    """Tell whether an entry's file or folder has a hash."""
    known = isinstance(item, dict) and isinstance(item.get("path"), str) and {"md5", "etag", "checksum"} & set(item)
    return bool(known) and all(value is not None for value in item.values())
