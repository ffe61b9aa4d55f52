"""What is fetched from the hub: repositories are pinned, and paths into fetched folders name an entry."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from knowtune.common.errors import Problem
from knowtune.text.templates import is_local
from stages.core.faults.paths import hub_folder, sections_with_paths
from stages.core.faults.raw import family


def check_hub(raw: dict[str, Any]) -> list[Problem]:
    """Check the entries of `hub`, and the paths that lead to what they bring."""
    hub, folder = family(raw, "hub"), hub_folder()
    problems = [problem for name, entry in hub.items() for problem in _entry(f"hub.{name}", entry)]
    for section, values, key in sections_with_paths(raw):
        path = values.get(key) or ""
        inside = f"{os.path.normpath(path)}/"
        if inside.startswith(folder) and inside.removeprefix(folder).partition("/")[0] not in hub:
            named = ", ".join(f"{folder}{name}" for name in hub) or "an entry of `hub`"
            problems.append(Problem(f"{section}.{key}", repr(path), named))
    return problems


def _entry(where: str, entry: dict[str, Any]) -> list[Problem]:
    """Check where a repository lies, and that its revision is pinned."""
    problems = []
    repo, revision = entry.get("repo"), entry.get("revision")
    if repo is None:
        return []
    if is_local(repo) and Path.cwd().is_relative_to(os.path.normpath(Path.cwd() / repo)):
        problems.append(Problem(f"{where}.repo", repr(repo), "the folder of a model or a data set alone"))
    elif not is_local(repo) and not re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", repo):
        allowed = "owner/name as the hub has it, or a local path that begins with . or /"
        problems.append(Problem(f"{where}.repo", repr(repo), allowed))
    if "revision" not in entry:
        return problems
    if revision is None and not is_local(repo):
        allowed = "the whole hash of a commit, 40 digits, so that the same files come every time"
        problems.append(Problem(f"{where}.revision", "null", allowed))
    elif revision is not None and is_local(repo):
        problems.append(Problem(f"{where}.revision", repr(revision), "null, for `repo` is a local copy"))
    return problems
