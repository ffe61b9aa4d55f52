"""Pages of Markdown, written whole."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from knowtune.common.files import whole

WIDTH = 100


def page_text(lines: Iterable[str]) -> str:
    """Join the lines of a page; points of a list that are longer than a page is wide go on in the next line."""
    parts = []
    for line in lines:
        is_long = line.startswith("- ") and len(line) > WIDTH
        parts += textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False) if is_long else [line]
    return "\n".join(parts).rstrip() + "\n"


def write_page(path: Path, lines: Iterable[str]) -> None:
    """Write a page, whole or not at all."""
    with whole(path) as part:
        part.write_text(page_text(lines), encoding="utf-8")
