"""Pages of Markdown, written whole."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from benchmarks.evidence.differences import Difference
from benchmarks.evidence.numbers import format_metric
from knowtune.common.files import whole

WIDTH = 100


def page_text(lines: Iterable[str]) -> str:
    """Join the lines of a page; points of a list that are longer than a page is wide go on in the next line."""
    parts = []
    for line in lines:
        is_long = line.startswith("- ") and len(line) > WIDTH
        parts += textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False) if is_long else [line]
    return "\n".join(parts).rstrip() + "\n"


def difference_text(difference: Difference) -> str:
    """Write a difference; what its interval shows stands bold, and one that cannot be taken is a dash."""
    if difference.mean is None:
        return "–"
    text = format_metric(difference.metric, difference.mean, difference.half_width, sign=True)
    return f"**{text}** {'better' if difference.verdict > 0 else 'worse'}" if difference.verdict else text


def levels_text(difference: Difference, learned: str) -> str:
    """Write between which levels of learning two arms were compared."""
    if difference.levels is None:
        return "–"
    low, high = (format_metric(learned, level, None) for level in difference.levels)
    return low if low == high else f"{low} to {high}"


def write_page(path: Path, lines: Iterable[str]) -> None:
    """Write a page, whole or not at all."""
    with whole(path) as part:
        part.write_text(page_text(lines), encoding="utf-8")
