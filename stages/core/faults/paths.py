"""The settings that name a path, and that none of them leads to the project as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from knowtune.common.errors import Problem
from knowtune.text.templates import PACKAGE
from stages.core.pipeline import project_out

PATHS = (("source", "data"), ("source", "text"), ("source", "replay_text"), ("base", "path"), ("semantics", "path"))


def sections_with_paths(raw: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Give every setting that names a path.

    Args:
        raw: params; sections and keys may be missing.

    Yields:
        The section's name, dotted; the section itself; and the key in it.
    """
    for name, key in PATHS:
        yield name, raw.get(name, {}), key
    for name, section in raw.get("evaluate", {}).get("retention", {}).items():
        yield f"evaluate.retention.{name}", section, "path"


def base_folder() -> str:
    """Return where the base stage puts the pristine base."""
    return project_out("base")


def hub_folder() -> str:
    """Return where the fetch stage puts what the hub has, a slash at the end."""
    return project_out("fetch")


def is_own(section: str, path: str) -> bool:
    """Tell whether a setting's path is one that a stage writes: what is fetched, or the base that semantics read."""
    return os.path.normpath(path).startswith(hub_folder()) or (section == "semantics" and path == base_folder())


def check_paths(raw: dict[str, Any]) -> list[Problem]:
    """Check that no path leads to the project as a whole."""
    problems = []
    here = Path.cwd()
    for section, values, key in sections_with_paths(raw):
        given = values.get(key, "")
        if not given or given.startswith((PACKAGE, "DATA/")) or is_own(section, given):
            continue
        path = Path(os.path.normpath(here / given))
        parts = path.relative_to(here).parts if path.is_relative_to(here) else ()
        if here.is_relative_to(path) or parts == ("data",):
            allowed = "a file or folder of its own, not one that holds all of the project"
            problems.append(Problem(f"{section}.{key}", repr(given), allowed))
    return problems
