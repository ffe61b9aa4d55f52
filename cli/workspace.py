"""Workspaces: another params file works in a folder of its own and leaves params.yaml and dvc.lock alone.

A workspace is a small DVC repository below `workspaces/`, untracked by git, which shares the project's code by
links and its cache by name. Paths in its params are made absolute, so that they mean what they meant where the file
was written: relative to the project's root. Paths with signs that a shell reads are reached by links. Its data/ holds
outs only.

A preset is a params file under `presets/`. Its paths may begin with DATA/, the folder that the user gives, or with
PACKAGE/name/, the folder of an installed Python package.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from cli.claim import claimed
from knowtune.common.errors import UserError, unknown
from knowtune.common.files import whole
from knowtune.text.templates import local_path
from stages.core.faults import BASE, PATHS
from stages.core.params import read_yaml, write_yaml

DEFAULT = Path("params.yaml")
PRESETS = Path("presets")
LINKS = ("knowtune", "stages", "cli", "dvc.yaml", ".dvcignore")
# What a path may not have between the double quotes of dvc.yaml's commands, nor in YAML; DVC's lock loses U+0085.
SIGNS = re.compile(r'["$`\\\x00-\x1f\x7f\x85\ud800-\udfff]')
NO_GIT = "no_scm"  # DVC's own setting
FETCHED = "data/hub/"  # outs of the workspace itself, not the project's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how a command is told what to work on."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--params", type=Path, default=DEFAULT, metavar="FILE", help="another params file")
    which.add_argument("--preset", metavar="NAME", help=f"a params file of {PRESETS}/, by its name")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="what DATA/ stands for in a preset")


def params_file(args: argparse.Namespace) -> Path:
    """Return the params file that a command's arguments mean."""
    return preset_file(args.preset) if args.preset else Path(args.params)


def preset_file(name: str) -> Path:
    """Return the params file of a preset.

    Raises:
        UserError: there is none of this name.
    """
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        raise unknown("preset", name, [found.stem for found in PRESETS.glob("*.yaml")])
    return path


def open_workspace(params: Path, data: Path | None = None, *, wait: bool = False) -> Path:
    """Return the folder to work in: the project itself for params.yaml, else a workspace named after the file.

    Args:
        params: the params file.
        data: the folder that DATA/ stands for; the one given last by default.
        wait: with a change of the workspace's params, until a reproduction under way there has ended.

    Raises:
        UserError: the params file is wrong, a path does not exist, another file of the same name has this workspace, or
            a reproduction under way there reads other params; nothing is changed then.
    """
    from cli.checks import check_params

    check_params(params)
    if not os.access(Path.cwd(), os.W_OK):
        raise UserError(f"{Path.cwd()}: this folder cannot be written, and results go into it; copy it elsewhere")
    if params.resolve() == DEFAULT.resolve():
        follow_git(Path.cwd())
        return Path.cwd()
    folder = Path("workspaces") / params.stem
    origin = folder / "origin.json"
    known: dict[str, Any] = {"params": str(params.resolve())}
    with suppress(OSError, ValueError):  # none yet, or damaged
        known |= json.loads(origin.read_text(encoding="utf-8"))
    if known["params"] != str(params.resolve()):
        raise UserError(
            f"{folder}: belongs to {known['params']}; give one of the two files another name, or remove the folder"
        )
    data = data or (Path(known["data"]) if known.get("data") else None)
    settled = settle_paths(read_yaml(params), Path.cwd(), data, str(params))
    if not (folder / ".dvc/config.local").is_file():
        with claimed(folder, wait=True):  # two commands may meet here
            _make(folder)
    with whole(origin) as part:
        part.write_text(json.dumps({**known, "data": str(data.resolve()) if data else None}), encoding="utf-8")
    for name in LINKS:
        link = folder / name
        with suppress(FileExistsError):
            link.symlink_to(os.path.relpath(name, folder))
    path, value = folder / "params.yaml", link_odd_paths(settled, folder)
    if not (path.is_file() and read_yaml(path) == value):  # an equal file's time is left as it is
        with claimed(folder, wait=wait):
            write_yaml(path, value)
    return folder.resolve()


def _make(folder: Path) -> None:
    """Make a workspace's DVC repository, unless another command has just made it."""
    if not (folder / ".dvc/config.local").is_file():
        _dvc(folder, "init", "--quiet", "--no-scm", "--force")
        for name, value in (("core.analytics", "false"), ("core.check_update", "false")):
            _dvc(folder, "config", name, value)
        _dvc(folder, "config", "cache.type", "reflink,hardlink,copy")
        (folder / ".dvcignore").unlink(missing_ok=True)
        _dvc(folder, "cache", "dir", "--local", str(Path(".dvc/cache").resolve()))  # last: it says that all is done


def follow_git(project: Path) -> None:
    """Let DVC work in a project without git, such as an unpacked archive, and with git again once there is some.

    What is set lies in `.dvc/config.local`, which belongs to this copy alone: DVC's experiments need git.
    """
    settings = project / ".dvc/config", project / ".dvc/config.local"
    shared, own = (path.is_file() and NO_GIT in path.read_text(encoding="utf-8") for path in settings)
    found = any((folder / ".git").exists() for folder in (project, *project.parents))
    if found and own:
        _dvc(project, "config", "--local", "--unset", f"core.{NO_GIT}")
    elif not found and not own and not shared and settings[0].is_file():
        print("no git here: DVC works without; `dvc exp` and the commit in MLflow need `git init`", file=sys.stderr)
        _dvc(project, "config", "--local", f"core.{NO_GIT}", "true")


def settle_paths(raw: dict[str, Any], root: Path, data: Path | None, where: str) -> dict[str, Any]:
    """Make the paths of a params file absolute, and put in what DATA and PACKAGE stand for.

    Args:
        raw: the params.
        root: what relative paths are relative to: the project.
        data: what DATA stands for.
        where: the file's name, for errors.

    Raises:
        UserError: DATA is not given, a package is not installed, or there is nothing at a path.
    """
    for section_name, key in PATHS:
        section, name = raw[section_name], f"{section_name}.{key}"
        given = str(section[key])
        first, _, rest = given.partition("/")
        if is_own(section_name, given):
            continue
        if first == "DATA":
            if data is None:
                raise UserError(f"{where}: {name}: {given} needs a folder; say which: DATA=folder")
            path = data / rest
        elif first == "PACKAGE":
            path = local_path(given, f"{where}: {name}")
        else:
            path = root / given
        if not path.exists():
            raise UserError(f"{where}: {name}: {given} is {path}, and nothing is there")
        section[key] = str(path.resolve())
    return raw


def link_odd_paths(settled: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make links in a workspace for paths with signs that a shell reads, and name the links instead.

    Args:
        settled: params with absolute paths.
        folder: the workspace.
    """
    for section, key in PATHS:
        path = Path(settled[section][key])
        if SIGNS.search(str(path)):
            link = folder / "links" / f"{section}-{key}" / SIGNS.sub("_", path.name)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink() or link.readlink() != path:
                link.unlink(missing_ok=True)
                link.symlink_to(path)
            settled[section][key] = str(link.relative_to(folder))
    return settled


def is_own(section: str, given: str) -> bool:
    """Tell whether a path is where the pipeline itself writes: what it fetched, or the base that semantics read."""
    return given.startswith(FETCHED) or (section == "semantics" and given == BASE)


def _dvc(folder: Path, *arguments: str) -> None:
    """Run a dvc command in a folder."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, check=True)
