"""A version of the registry, by alias, number or address, brought onto this machine and checked file by file."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from knowtune.common.errors import UserError
from knowtune.common.files import file_digest, read_json, replace_folder
from stages.tracking.registry import BASE, MODEL, RECORD, Registry, Version, lost, open_registry
from stages.tracking.releasing import FILES

SPEC = re.compile(r"(?:models:/(?P<name>[^/@]+)(?:@|/))?(?P<which>[\w-]+)")


@dataclass(frozen=True)
class Fetched:
    """A version that is here.

    Args:
        version: of the registry.
        model: folder of its model.
        base: folder of its base, where the model is an adapter on it.
        record: folder of what describes it.
    """

    version: Version
    model: Path
    base: Path | None
    record: Path


def find_version(spec: str, name: str) -> tuple[Registry, Version]:
    """Find a version.

    Args:
        spec: an alias, a number, or an address: models:/NAME@ALIAS, models:/NAME/NUMBER.
        name: of the model where the spec names none.

    Raises:
        UserError: it names no version, or the registry cannot be reached.
    """
    found = SPEC.fullmatch(spec)
    if found is None:
        raise UserError(f"got {spec!r}; allowed: champion, a number, models:/NAME@ALIAS or models:/NAME/NUMBER")
    registry = open_registry(found["name"] or name)
    if found["which"].isdecimal():
        return registry, registry.version(found["which"])
    version = registry.by_alias(found["which"])
    if version is None:
        aliases = sorted(alias for known in registry.versions() for alias in known.aliases)
        there = ", ".join(aliases) or "none yet; `python -m flows.promote` makes the first"
        raise UserError(f"{registry.name}: no version has the alias {found['which']!r}; aliases: {there}")
    return registry, version


def fetch(registry: Registry, version: Version, place: Path) -> Fetched:
    """Bring a version here, or find it here from before.

    Args:
        registry: that has it.
        version: which one.
        place: folder for all versions.

    Raises:
        UserError: the version has lost files, or one has other bytes than when it was registered.
    """
    folder = place / version.name / f"{version.number}-{version.source[-8:]}"  # a store may be made anew
    if not folder.is_dir():
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for name in _parts(registry.fetch(version, RECORD, part)):
            registry.fetch(version, name, part)
        _check(version, part)
        replace_folder(part, folder)
        shutil.rmtree(part)
    base = folder / BASE
    return Fetched(version, folder / MODEL, base if base.is_dir() else None, folder / RECORD)


def _parts(record: Path) -> list[str]:
    """Name the folders that a version has beside its record."""
    return sorted({name.partition("/")[0] for name in read_json(record / FILES)})


def _check(version: Version, folder: Path) -> None:
    """Compare every file with its digest in the record."""
    for name, entry in read_json(folder / RECORD / FILES).items():
        path = folder / name
        if not path.is_file() or file_digest(path) != entry["sha256"]:
            raise lost(version, f"{name} is {'damaged' if path.is_file() else 'missing'}")
