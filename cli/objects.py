"""The objects of DVC's cache are what their names say, or they are removed before DVC trusts them.

DVC names an object by the md5 of its bytes, protects it from writing, and trusts what is protected: one that a disk or
a program has damaged is checked out as a stage's result, and the lock takes it over without a word. Hard-linked outs
are such objects themselves. Hashing a cache takes long, so each object's time and size are noted when DVC has made it,
and only an object that has others is hashed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from knowtune.common.files import whole

OBJECTS = Path("files/md5")
CACHE = Path(".dvc/cache")
NOTE = Path("objects.json")  # in the cache, so that all who share it share the note
SHOWN = 3

Stamp = list[int]


@contextmanager
def sound_objects(folder: Path) -> Iterator[None]:
    """Remove damaged objects, let DVC work for the length of a block, and note the objects that it has made.

    Args:
        folder: the project or a workspace, which uses the cache of the project below which it lies.
    """
    cache = next((parent / CACHE for parent in (folder, *folder.parents) if (parent / CACHE / OBJECTS).is_dir()), None)
    if cache is not None:
        drop_damaged(cache)
    try:
        yield
    finally:
        note_objects(cache or folder / CACHE)


def drop_damaged(cache: Path) -> None:
    """Remove the objects that are not what their names say, and say so."""
    noted, damaged = _read_stamps(cache), []
    for name, path, stamp in _objects(cache):
        if noted.get(name) != stamp and _md5(path) != name.removesuffix(".dir"):
            path.unlink()
            damaged.append(name)
        else:
            noted[name] = stamp
    _write_stamps(cache, noted)
    if damaged:
        names = ", ".join(name[:8] for name in damaged[:SHOWN]) + (", …" if len(damaged) > SHOWN else "")
        what = "damaged object is" if len(damaged) == 1 else "damaged objects are"
        print(f"DVC's cache: {len(damaged)} {what} removed ({names}); what needs it is made again", file=sys.stderr)


def note_objects(cache: Path) -> None:
    """Note time and size of the objects that are new; what is noted of others stays, or damage would be noted too."""
    noted = _read_stamps(cache)
    _write_stamps(cache, {name: noted.get(name, stamp) for name, _, stamp in _objects(cache)})


def _write_stamps(cache: Path, stamps: dict[str, Stamp]) -> None:
    """Write the note, if it is another."""
    if stamps != _read_stamps(cache):
        with whole(cache / NOTE) as part:
            part.write_text(json.dumps(stamps), encoding="utf-8")


def _objects(cache: Path) -> Iterator[tuple[str, Path, Stamp]]:
    """Give each object's name, path, and time and size."""
    for folder in sorted((cache / OBJECTS).glob("[0-9a-f][0-9a-f]")):
        with os.scandir(folder) as entries:
            for entry in entries:
                name = folder.name + entry.name
                if len(name.removesuffix(".dir")) == 32 and entry.is_file(follow_symlinks=False):
                    stat = entry.stat()
                    yield name, Path(entry.path), [stat.st_mtime_ns, stat.st_size]


def _read_stamps(cache: Path) -> dict[str, Stamp]:
    """Read the note; nothing where there is none, or one that cannot be read."""
    try:
        noted = json.loads((cache / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _md5(path: Path) -> str:
    """Return the md5 of a file's bytes, as DVC names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
