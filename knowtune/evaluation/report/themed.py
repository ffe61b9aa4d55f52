"""Pictures of matplotlib as parts of a page: in its colours, light or dark, and with ids that clash with no other's.

A picture lies in a file of its own too, so it is drawn in literal colours. On the page each colour that a plot uses by
default becomes a variable of the page's style, and other colours stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from knowtune.evaluation.report.legends import Key, Legend, take_legends

COLOURS = {
    "#000000": "--ink",
    "#ffffff": "--paper",
    "#b0b0b0": "--line",
    "#808080": "--muted",
    **{
        colour: f"--c{number}"
        for number, colour in enumerate(
            "#1f77b4 #ff7f0e #2ca02c #d62728 #9467bd #8c564b #e377c2 #7f7f7f #bcbd22 #17becf".split()
        )
    },
}
COLOUR = re.compile("|".join(COLOURS))
ID = re.compile(r' id="([^"]*)"')
USED = re.compile(r'(url\(#|href="#)([^)"]+)')
LONG = re.compile(r"(\.\d\d)\d{3,}")  # a hundredth of a point is less than anybody sees
MODEL = re.compile(r"model-(\d+)$")  # the group of a point that stands for a model


def themed(svg: str, name: str) -> str:
    """Return a picture as a part of a page.

    Args:
        svg: of `knowtune.common.svg.svg_text`.
        name: of the picture, once on the page.
    """
    used = {target for _, target in USED.findall(svg)}

    def renamed(match: re.Match[str]) -> str:
        if model := MODEL.match(match[1]):
            return f' data-model="{model[1]}" tabindex="0" role="button"'
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    prefixed = USED.sub(rf"\1{name}-\2", ID.sub(renamed, svg))
    return _coloured(LONG.sub(r"\1", prefixed))


def _coloured(text: str) -> str:
    """Replace literal colours by the page's."""
    return COLOUR.sub(lambda match: f"var({COLOURS[match[0]]})", text)


@dataclass(frozen=True)
class Picture:
    """A picture that a stage or a method drew, as a part of the page.

    Args:
        svg: without its legends.
        legends: of its panels.
    """

    svg: str
    legends: Sequence[Legend]


def as_picture(svg: str, name: str) -> Picture:
    """Return a picture for the page with its legends as text; see `themed`."""
    plain, legends = take_legends(svg)
    keys = [Legend(panels, [Key(_coloured(key.colour), key.label) for key in some]) for panels, some in legends]
    return Picture(themed(plain, name), keys)
