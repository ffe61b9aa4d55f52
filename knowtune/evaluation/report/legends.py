"""Legends of pictures as text below them: none lies over its data, whoever drew it."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import NamedTuple

LEGEND = re.compile(r'<g id="legend_\d+">')
AXES = re.compile(r'<g id="axes_(\d+)">')
GROUP = re.compile(r"<(/?)g\b[^>]*?(/?)>")
TEXT = re.compile(r"<text\b[^>]*>(.*?)</text>", re.DOTALL)
COLOUR = re.compile(r"(?:fill|stroke): (#[0-9a-f]{6})")


class Key(NamedTuple):
    """What one colour stands for in some panels of a picture."""

    colour: str
    label: str


class Legend(NamedTuple):
    """The keys of one or several panels, numbered from 1; 0 is the whole picture."""

    panels: Sequence[int]
    keys: Sequence[Key]


def take_legends(svg: str) -> tuple[str, list[Legend]]:
    """Return a picture of matplotlib without its legends, and what they say; equal ones of several panels once."""
    legends: dict[tuple[Key, ...], list[int]] = {}
    while start := LEGEND.search(svg):
        end = _end_of_group(svg, start.start())
        panel = [int(axes[1]) for axes in AXES.finditer(svg) if _encloses(svg, axes.start(), start.start())]
        legends.setdefault(tuple(_keys(svg[start.start() : end])), []).append(panel[-1] if panel else 0)
        svg = svg[: start.start()] + svg[end:]
    return svg, [Legend(panels, keys) for keys, panels in legends.items()]


def _keys(group: str) -> list[Key]:
    """Read the labels of a legend, each with the last colour before it: the legend's frame comes first."""
    keys, start = [], 0
    for text in TEXT.finditer(group):
        colours = COLOUR.findall(group, start, text.start())
        keys.append(Key(colours[-1] if colours else "#000000", html.unescape(re.sub(r"<[^>]*>", "", text[1])).strip()))
        start = text.end()
    return keys


def _end_of_group(svg: str, start: int) -> int:
    """Return where a group ends that starts here."""
    depth = 0
    for tag in GROUP.finditer(svg, start):
        closes, is_empty = tag.groups()
        depth += 0 if is_empty else -1 if closes else 1
        if depth == 0:
            return tag.end()
    raise ValueError("an SVG group without an end")


def _encloses(svg: str, outer: int, inner: int) -> bool:
    """Tell whether a group that starts before another also ends after it."""
    return outer < inner < _end_of_group(svg, outer)
