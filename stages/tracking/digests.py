"""DVC's digests, computed in DVC's way without DVC: md5 of a file's bytes; of a folder, md5 of its listing.

A folder's listing is the JSON text of [{"md5": ..., "relpath": ...}, ...], sorted by relpath, over every file that
.dvcignore does not hide; the digest carries the suffix ".dir". (dvc-data: hashfile/tree.py, Tree.as_bytes.)
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ALWAYS_HIDDEN = (".hg/", ".git/", ".git", ".dvc/")  # dvc: ignore.py
Hidden = Callable[[str, bool], bool]


def digest(path: Path, name: str, hidden: Hidden, md5_of: Callable[[Path], str] | None = None) -> dict[str, Any]:
    """Digest a file or folder.

    Args:
        path: where the bytes lie.
        name: the path that DVC knows it by, seen from the project's folder.
        hidden: see `hidden_by`.
        md5_of: digests a file, `file_md5` by default.

    Returns:
        md5 and size; of a folder also nfiles, as dvc.lock has them.

    Raises:
        FileNotFoundError: nothing lies there.
    """
    md5_of = md5_of or file_md5
    if not path.is_dir():
        return {"md5": md5_of(path), "size": path.stat().st_size}
    files = sorted(files_below(path, name, hidden))
    listing = [{"md5": md5_of(path / relpath), "relpath": relpath} for relpath in files]
    text = json.dumps(listing, sort_keys=True).encode()
    size = sum((path / relpath).stat().st_size for relpath in files)
    return {"md5": f"{_md5(text)}.dir", "size": size, "nfiles": len(files)}


def file_md5(path: Path) -> str:
    """Return the md5 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def joint_md5(digests: dict[str, str]) -> str:
    """Return one md5 over several paths and their digests, to find a stage's run by what it wrote."""
    return _md5(json.dumps(sorted(digests.items())).encode())


def files_below(path: Path, name: str, hidden: Hidden) -> Iterator[str]:
    """List the files of a folder that DVC sees, relative to it."""
    for folder, folders, files in os.walk(path):
        inside = Path(folder).relative_to(path).as_posix()
        seen_as = name if inside == "." else f"{name}/{inside}"
        folders[:] = [f for f in folders if not hidden(f"{seen_as}/{f}", True)]
        for file in files:
            if not hidden(f"{seen_as}/{file}", False):
                yield file if inside == "." else f"{inside}/{file}"


def hidden_by(folder: Path) -> Hidden:
    """Read the .dvcignore of a project's folder.

    Returns:
        A function of a path, seen from that folder, and whether it is a folder. What lies outside is never hidden.
    """
    from pathspec import GitIgnoreSpec

    file = folder / ".dvcignore"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    spec = GitIgnoreSpec.from_lines([*ALWAYS_HIDDEN, *lines])

    def hidden(path: str, is_folder: bool) -> bool:
        if path.startswith(("/", "../")):
            return False
        return spec.match_file(f"{path}/" if is_folder else path)

    return hidden


def _md5(content: bytes) -> str:
    """Return the md5 of bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
