"""Figures as text whose bytes depend on their content alone, for DVC compares bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def svg_text(figure: Figure, **options: Any) -> str:
    """Render a figure as SVG: no clock, no version, no link.

    Args:
        figure: of matplotlib.
        options: of its `savefig`.
    """
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "knowtune", "svg.fonttype": "none"}):
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, **options)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
