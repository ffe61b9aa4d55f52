"""Figures with panels, whose SVG has the same bytes every time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


def make_panels(count: int, columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """Make a figure with so many panels; width and height are a panel's, in inches."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasSVG(figure)
    axes = [figure.add_subplot(rows, columns, number + 1) for number in range(count)]
    for ax in axes:
        ax.tick_params(labelsize=7)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    return figure, axes


def add_legend(figure: Any, axes: list[Any], columns: int | None = None) -> None:
    """Write one legend for all panels below them, each label once."""
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=columns or len(handles), fontsize=8, frameon=False
    )


def save(figure: Any, path: Path) -> None:
    """Write an SVG that is the same every time."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "evidence", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})
