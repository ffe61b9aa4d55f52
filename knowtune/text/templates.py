"""Small languages inside settings: prompt templates, and what names a repository. Light, for checks read them too."""

from __future__ import annotations

import importlib.util
import string
import sys
from pathlib import Path

from knowtune.common.errors import UserError

PACKAGE = "PACKAGE/"  # stands for the folder of an installed Python package


def is_template(column: str) -> bool:
    """Tell a template such as "Q: {question}" from the name of a column."""
    return "{" in column


def template_columns(template: str) -> list[str]:
    """List the columns that a template names.

    Raises:
        ValueError: its braces do not pair up, or hold more than a name.
    """
    columns = []
    for _, name, form, conversion in string.Formatter().parse(template):
        if form or conversion:
            raise ValueError(f"{{{name}}} with a format; allowed in braces: the name of a column alone")
        columns += [] if name is None else [name]
    return columns


def is_local(repo: str) -> bool:
    """Tell the path of a local copy from the name of a repository of the hub."""
    return repo.startswith((".", "/", "~", PACKAGE))


def local_path(given: str, where: str) -> Path:
    """Find a file or folder on this machine.

    Args:
        given: its path, or PACKAGE/name/folder of an installed Python package.
        where: the setting or file that gives it, for errors.

    Raises:
        UserError: the package is not installed, or nothing is there.
    """
    path = Path(given).expanduser()
    if given.startswith(PACKAGE):
        name, _, rest = given.removeprefix(PACKAGE).partition("/")
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            install = f"{sys.executable} -m pip install {name.replace('_', '-')}"
            raise UserError(f"{where}: the Python package {name} is not installed; run `{install}`")
        path = Path(next(iter(spec.submodule_search_locations))) / rest
    if not path.exists():
        raise UserError(f"{where}: {given}: nothing is there")
    return path
