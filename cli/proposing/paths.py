"""Paths and names as a preset may hold them."""

from __future__ import annotations

import re
from pathlib import Path

from knowtune.common.errors import UserError

SPECIAL = ("DATA/", "PACKAGE/", "data/hub/")  # beginnings that mean something else in a preset


def preset_path(path: Path, root: Path) -> str:
    """Write a path for a preset: relative to the project where it lies in it, else absolute.

    Raises:
        UserError: the path is not UTF-8.
    """
    whole = path.resolve()
    shown = str(whole.relative_to(root.resolve())) if whole.is_relative_to(root.resolve()) else str(whole)
    try:
        shown.encode()
    except UnicodeEncodeError:
        raise UserError(f"{shown!r}: the name is not UTF-8; rename the file or folder") from None
    return str(whole) if shown.startswith(SPECIAL) else shown


def valid_name(text: str) -> str:
    """Make a name of letters, digits, _ and - of any text."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_") or "mine"
