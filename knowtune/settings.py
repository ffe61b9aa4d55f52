"""Small languages inside settings: prompt templates, and what names a repository. Light, for checks read them too."""

from __future__ import annotations

import string


def is_template(column: str) -> bool:
    """Tell a template such as "Q: {question}" from the name of a column."""
    return "{" in column


def template_columns(template: str) -> list[str]:
    """List the columns that a template names.

    Raises:
        ValueError: its braces do not pair up.
    """
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def is_local(repo: str) -> bool:
    """Tell the path of a local copy from the name of a repository of the hub."""
    return repo.startswith((".", "/", "~"))
