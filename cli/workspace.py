"""Workspaces: another params file works in a folder of its own and leaves params.yaml and dvc.lock alone.

A workspace is a small DVC repository below `workspaces/`, untracked by git, which shares the project's code by
links and its cache by name. Its data/ holds outs only. A preset is a params file under `presets/`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from cli.checks import check_params, say_all
from cli.claim import claim_folder
from cli.paths import link_odd_paths, settle_paths
from cli.sets import faults_of_sets
from knowtune.common.errors import UserError, raise_gathered, unknown
from knowtune.common.files import whole
from stages.core.params import PARAMS, read_yaml, write_yaml

PRESETS, WORKSPACES = Path("presets"), Path("workspaces")
LINKS = ("knowtune", "stages", "cli", "flows", "dvc.yaml", ".dvcignore")
NO_GIT = "no_scm"  # DVC's own setting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say what a command works on."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--params", type=Path, default=PARAMS, metavar="FILE", help="a params file instead of params.yaml"
    )
    which.add_argument("--preset", metavar="NAME", help=f"a params file of {PRESETS}/, by its name")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the folder that DATA/ stands for in a preset")


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
        raise unknown("preset", name, [path.stem for path in PRESETS.glob("*.yaml")])
    return path


def known_workspace(name: str) -> Path | None:
    """Return the params file of a workspace that was opened before; None where there is none of this name."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        path = Path(json.loads((Path("workspaces") / name / "origin.json").read_text(encoding="utf-8"))["params"])
        return path if path.is_file() else None
    return None


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
    check_params(params)
    if not os.access(Path.cwd(), os.W_OK):
        raise UserError(f"{Path.cwd()}: this folder cannot be written, and results go into it; copy it elsewhere")
    if params.resolve() == PARAMS.resolve():
        follow_git(Path.cwd())
        return Path.cwd()
    folder = folder_of(params)
    origin = folder / "origin.json"
    known: dict[str, Any] = {"params": str(params.resolve())}
    with suppress(OSError, ValueError):  # none yet, or damaged
        known |= json.loads(origin.read_text(encoding="utf-8"))
    if known["params"] != str(params.resolve()):
        raise UserError(
            f"{folder}: belongs to {known['params']}; give one of the two files another name, or remove the folder"
        )
    data = data or (Path(known["data"]) if known.get("data") else None)
    settled = settle_paths(say_all(read_yaml(params)), Path.cwd(), data, str(params))
    raise_gathered(str(params), faults_of_sets(settled, Path.cwd()))
    if not (folder / ".dvc/config.local").is_file():
        with claim_folder(folder, wait=True):  # two commands may meet here
            _make(folder)
    with whole(origin) as part:
        part.write_text(json.dumps({**known, "data": str(data.resolve()) if data else None}), encoding="utf-8")
    for name in LINKS:
        link = folder / name
        with suppress(FileExistsError):
            link.symlink_to(os.path.relpath(name, folder))
    path, value = folder / "params.yaml", link_odd_paths(settled, folder)
    if not (path.is_file() and read_yaml(path) == value):  # an equal file's time is left as it is
        with claim_folder(folder, wait=wait):
            write_yaml(path, value)
    return folder.resolve()


def folder_of(params: Path) -> Path:
    """Return the workspace of a params file: named after it; beside it where it lies below `workspaces/` itself."""
    top, file = WORKSPACES.resolve(), params.resolve()
    if file.is_relative_to(top):
        return WORKSPACES / file.relative_to(top).with_suffix("")
    return WORKSPACES / params.stem


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
    has_git = any((folder / ".git").exists() for folder in (project, *project.parents))
    if has_git and own:
        _dvc(project, "config", "--local", "--unset", f"core.{NO_GIT}")
    elif not has_git and not own and not shared and settings[0].is_file():
        print("no git here: DVC works without; `dvc exp` and the commit in MLflow need `git init`", file=sys.stderr)
        _dvc(project, "config", "--local", f"core.{NO_GIT}", "true")


def _dvc(folder: Path, *arguments: str) -> None:
    """Run a dvc command in a folder."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, check=True)
