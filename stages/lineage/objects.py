"""Bytes by the digest that was recorded for them: from the folder where it still holds them, else from DVC's cache.

DVC's cache names a file by its md5 and a folder by the md5 of its listing, which names its files. So one file of a
folder is checked without reading the others. Digests are remembered by a file's time, size and inode.
"""

from __future__ import annotations

import configparser
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from knowtune.common.files import file_digest, whole
from stages.tracking.digests import digest, file_md5, files_below, hidden_by
from stages.tracking.lineage import Digest

MEMO = Path(".work/lineage.json")
CACHE, CONFIGS = Path(".dvc/cache"), (Path(".dvc/config.local"), Path(".dvc/config"))
OBJECTS = Path("files/md5")
SHOWN = 3  # files of a folder that are named


class Objects:
    """The bytes of a folder's recorded outs, and what is wrong with them.

    Args:
        folder: the project or a workspace.
        outs: path to recorded digest, see `stages.lineage.recorded.Recorded.outs`.
    """

    def __init__(self, folder: Path, outs: Mapping[str, Digest]) -> None:
        self.folder, self.outs, self.cache = folder, outs, cache_of(folder)
        self.hidden = hidden_by(folder)
        self.memo: dict[str, list[Any]] = _read_memo(folder / MEMO)
        self.fresh: dict[str, list[Any]] = {}
        self.gone: dict[str, str] = {}  # what was looked for and has no bytes any more, with the reason

    def find(self, path: str) -> Path | None:
        """Return where the recorded bytes of a file can be read; None where nowhere, or where none were recorded.

        Args:
            path: of an out, or of a file in one, seen from the folder.
        """
        out = self._covering(path)
        if out is None:
            return None
        here, wanted = self.folder / path, self._wanted(out, path)
        if wanted is None:  # its folder's listing is gone, so the folder counts as a whole
            if here.is_file() and self._found(out) == self.outs[out]["md5"]:
                return here
            self.gone[path] = f"{path}: not what was recorded, and DVC's cache does not know any more what that was"
            return None
        if wanted == "":
            return None
        if here.is_file() and self.md5(here) == wanted:
            return here
        stored = self._object(wanted)
        if stored is None:
            what = "has changed since it was recorded" if here.is_file() else "is not there"
            self.gone[path] = f"{path}: {what}, and DVC's cache no longer has what was recorded ({wanted[:8]})"
        return stored

    def faults(self, out: str) -> list[str]:
        """Say what is wrong with an out: missing, changed, or no longer in the cache; a sentence each."""
        recorded, here = self.outs[out], self.folder / out
        listing = self._listing(recorded["md5"])
        wanted = {"": recorded["md5"]} if listing is None else listing
        kept = [name for name, md5 in wanted.items() if self._is_stored(md5)]
        lost = (
            "" if len(kept) == len(wanted) else "and DVC's cache no longer has it; `dvc pull` fetches what a remote has"
        )
        if not here.exists():
            return [f"{out}: not there, {lost or f'but DVC keeps it: `dvc checkout {out}` brings it back'}"]
        if listing is None or not here.is_dir():
            found = self._found(out)
            odd = (
                []
                if found == recorded["md5"]
                else [f"{out}: changed ({recorded['md5'][:8]} was recorded, now {found[:8]})"]
            )
        else:
            odd = list(self._differences(out, listing))
        if odd:
            return [f"{fault}{'; ' + lost if lost else ''}" for fault in odd]
        return (
            [f"{out}: as recorded, but its copy in DVC's cache is gone; `dvc commit -f {out}` puts it back"]
            if lost
            else []
        )

    def lost(self, out: str) -> list[str]:
        """Say that the recorded bytes of an out are neither in the folder nor in the cache; nothing where they are."""
        md5 = str(self.outs[out]["md5"])
        listing = self._listing(md5) if md5.endswith(".dir") else {"": md5}
        if (listing is not None and all(map(self._is_stored, listing.values()))) or self._found(out) == md5:
            return []
        return [f"{out}: what was recorded ({md5[:8]}) is neither here nor in DVC's cache; `dvc pull` may fetch it"]

    def weights_digest(self, out_folder: str, without: str) -> str:
        """Digest the safetensors of a folder as cards of adapters do; "" where there are none."""
        from knowtune.common.files import text_digest

        files = sorted((self.folder / out_folder).glob("*.safetensors"))
        weights = {file.name: self._remembered(file, "sha256") for file in files if file.name != without}
        return text_digest(weights) if weights else ""

    def md5(self, path: Path) -> str:
        """Digest a file, unless that was done before and it has not changed since."""
        return self._remembered(path, "md5")

    def remember(self) -> None:
        """Keep the digests for the next time."""
        if self.fresh:
            with suppress(OSError):
                (self.folder / MEMO).parent.mkdir(exist_ok=True)
                with whole(self.folder / MEMO) as part:
                    part.write_text(json.dumps({**self.memo, **self.fresh}), encoding="utf-8")

    def _remembered(self, path: Path, kind: str) -> str:
        """Digest by md5 or sha256; time of change, size and inode say whether a file is still the same."""
        stat = path.stat()
        key, stamp = f"{kind} {path.resolve()}", [stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino]
        known = self.fresh.get(key) or self.memo.get(key)
        if known is not None and known[:-1] == stamp:
            return str(known[-1])
        made = file_md5(path) if kind == "md5" else file_digest(path)
        self.fresh[key] = [*stamp, made]
        return made

    def _found(self, out: str) -> str:
        """Digest an out as it lies there; "" where nothing does."""
        here = self.folder / out
        return str(digest(here, out, self.hidden, self.md5)["md5"]) if here.exists() else ""

    def _covering(self, path: str) -> str | None:
        """Return the out that a path is or lies in."""
        return next((name for name in (path, *map(str, Path(path).parents)) if name in self.outs), None)

    def _wanted(self, out: str, path: str) -> str | None:
        """Return the recorded md5 of a file; "" where its folder never held one, None where nobody knows."""
        md5 = str(self.outs[out]["md5"])
        if path == out:
            return md5
        listing = self._listing(md5)
        return None if listing is None else listing.get(str(Path(path).relative_to(out)), "")

    def _listing(self, md5: str) -> dict[str, str] | None:
        """Read a folder's listing: path below it to md5. None of a file, or where the listing is gone or damaged."""
        path = self._object(md5) if md5.endswith(".dir") else None
        if path is None:
            return None
        return {entry["relpath"]: entry["md5"] for entry in json.loads(path.read_text(encoding="utf-8"))}

    def _object(self, md5: str) -> Path | None:
        """Return an object of the cache, if it is there and is what its name says."""
        path = self._place(md5)
        return path if path.is_file() and self.md5(path) == md5.removesuffix(".dir") else None

    def _is_stored(self, md5: str) -> bool:
        """Tell whether the cache has an object; its bytes are not read."""
        return self._place(md5).is_file()

    def _place(self, md5: str) -> Path:
        """Say where the cache keeps an object."""
        return self.cache / OBJECTS / md5[:2] / md5[2:]

    def _differences(self, out: str, listing: Mapping[str, str]) -> Iterator[str]:
        """Name the files of a folder that are missing, changed or too many."""
        here = self.folder / out
        there = set(files_below(here, out, self.hidden))
        changed = [name for name in sorted(there & set(listing)) if self.md5(here / name) != listing[name]]
        for what, names in (
            ("changed since it was recorded", changed),
            ("missing", sorted(set(listing) - there)),
            ("not recorded", sorted(there - set(listing))),
        ):
            shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
            if names:
                yield f"{out}: {what}: {shown}"


def cache_of(folder: Path) -> Path:
    """Return DVC's cache: the one that its settings name, else the usual one."""
    for name in CONFIGS:
        settings = configparser.ConfigParser(interpolation=None)
        with suppress(configparser.Error, OSError):
            settings.read_string((folder / name).read_text(encoding="utf-8"))
            if settings.has_option("cache", "dir"):
                return (folder / name).parent / settings.get("cache", "dir").strip("\"'")
    return folder / CACHE


def _read_memo(path: Path) -> dict[str, list[Any]]:
    """Read remembered digests; none where there is no such file, or a damaged one."""
    with suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return {key: entry for key, entry in value.items() if isinstance(entry, list) and len(entry) == 5}
    return {}
