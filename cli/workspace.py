"""Workspaces: another params file works in a folder of its own and leaves params.yaml and dvc.lock alone.

A workspace is a small DVC repository below `workspaces/`, untracked by git, which shares the project's code by
links and its cache by name. Paths in its params are made absolute, so that they mean what they meant where the file
was written: relative to the project's root. Its data/ holds outs only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from knowtune.artefacts import whole
from knowtune.errors import UserError
from stages.core.params import read_yaml

DEFAULT = Path("params.yaml")
LINKS = ("knowtune", "stages", "cli", "dvc.yaml", ".dvcignore")
PATHS = (("source", "data"), ("source", "text"), ("base", "path"))


def open_workspace(params: Path) -> Path:
    """Return the folder to work in: the project itself for params.yaml, else a workspace named after the file.

    Raises:
        UserError: the params file is wrong, or another of the same name has this workspace; nothing is changed then.
    """
    from cli.checks import check_params

    check_params(params)
    if params.resolve() == DEFAULT.resolve():
        return Path.cwd()
    folder = Path("workspaces") / params.stem
    if not (folder / ".dvc").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _dvc(folder, "init", "--quiet", "--no-scm", "--force")
        for name, value in (("core.analytics", "false"), ("core.check_update", "false")):
            _dvc(folder, "config", name, value)
        _dvc(folder, "config", "cache.type", "reflink,hardlink,copy")
        _dvc(folder, "cache", "dir", "--local", str(Path(".dvc/cache").resolve()))
        (folder / ".dvcignore").unlink(missing_ok=True)
    origin = folder / "origin"
    if origin.is_file() and origin.read_text(encoding="utf-8") != str(params.resolve()):
        raise UserError(
            f"{folder}: belongs to {origin.read_text(encoding='utf-8')}; give one of the two files another name, "
            "or remove the folder"
        )
    origin.write_text(str(params.resolve()), encoding="utf-8")
    for name in LINKS:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(name, folder))
    _write_if_changed(folder / "params.yaml", with_absolute_paths(read_yaml(params), Path.cwd()))
    return folder.resolve()


def with_absolute_paths(raw: dict[str, Any], root: Path) -> dict[str, Any]:
    """Make the paths of a params file absolute, seen from the project's root."""
    for section, key in PATHS:
        raw[section][key] = str((root / raw[section][key]).resolve())
    return raw


def _write_if_changed(path: Path, value: dict[str, Any]) -> None:
    """Write YAML, but leave an equal file's time as it is."""
    if path.is_file() and read_yaml(path) == value:
        return
    with whole(path) as part, part.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(value, file)


def _dvc(folder: Path, *arguments: str) -> None:
    """Run a dvc command in a folder."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, check=True)
