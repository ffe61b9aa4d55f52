"""The looks of the page's own pictures: what colours mean, and axes without a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, OTHER, FRONT, CHOSEN, GRID = "#000000", "#7f7f7f", "#1f77b4", "#2ca02c", "#b0b0b0"
FONT = 9.0


def style_axes(axes: Axes, across: str, up: str) -> None:
    """Give a picture the looks of the page: no frame, a faint grid, small letters."""
    axes.set_xlabel(across, fontsize=FONT)
    axes.set_ylabel(up, fontsize=FONT)
    axes.tick_params(labelsize=FONT - 1, length=2, color=GRID)
    axes.tick_params(which="minor", length=0)
    axes.grid(color=GRID, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
