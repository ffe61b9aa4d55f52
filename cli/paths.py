"""The paths that a params file names, and what they become in a workspace.

They are made absolute, so that they mean what they meant where the file was written: relative to the project's root.
Paths with characters that a shell reads are reached by links. In a preset they may begin with DATA/, the folder that
the user gives, or with PACKAGE/name/, the folder of an installed Python package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from knowtune.common.errors import UserError
from knowtune.text.templates import local_path
from stages.core.faults.paths import is_own, sections_with_paths

# What a path may not have between the double quotes of dvc.yaml's commands, nor in YAML; DVC's lock loses U+0085.
SIGNS = re.compile(r'["$`\\\x00-\x1f\x7f\x85\ud800-\udfff]')


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
    for section_name, section, key in sections_with_paths(raw):
        name = f"{section_name}.{key}"
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
    for name, section, key in sections_with_paths(settled):
        path = Path(section[key])
        if SIGNS.search(str(path)):
            link = folder / "links" / f"{name.replace('.', '-')}-{key}" / SIGNS.sub("_", path.name)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink() or link.readlink() != path:
                link.unlink(missing_ok=True)
                link.symlink_to(path)
            section[key] = str(link.relative_to(folder))
    return settled
