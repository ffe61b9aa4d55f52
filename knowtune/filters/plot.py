"""The picture of a filter: how far its rows are, where it cuts, which knowledge disturbs which, what stays of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from knowtune.common.svg import svg_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 24  # groups whose shares are drawn, the largest
LONGEST = 22  # letters of a group's name


def draw_filter(summary: Mapping[str, Any]) -> str | None:
    """Draw what a filter did as SVG text, a panel for everything there is to see; None where there is nothing.

    Args:
        summary: see `knowtune.filters.summary.summarise`.
    """
    from matplotlib.figure import Figure

    panels: list[Callable[[Figure, Axes], None]] = []
    if summary["distances"] is not None:
        panels.append(lambda figure, axes: _histogram(axes, summary["distances"]))
    if summary["interference"] is not None:
        panels.append(lambda figure, axes: _heat_map(figure, axes, summary["interference"]))
    if summary["rows"]["kept"] < summary["rows"]["read"] and summary["groups"]["number"] > 1:
        panels.append(lambda figure, axes: _shares(axes, summary["groups"], summary["rows"]))
    if not panels:
        return None
    size = 5.2 * max(2, len(panels)), 4.2  # one panel alone is wide, not large
    figure = Figure(figsize=size, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False).flatten(), panels, strict=True):
        panel(figure, axes)
    return svg_text(figure)


def _histogram(axes: Axes, distances: Mapping[str, Any]) -> None:
    """Stack how many rows were kept and dropped at each distance; dashed where a strategy cuts."""
    edges = distances["edges"]
    bottom = [0] * (len(edges) - 1)
    parts = {"kept": distances["kept"], **distances["dropped"]}
    for number, (name, counts) in enumerate(parts.items()):
        if name == "kept" or any(counts):
            label = name if name == "kept" else f"dropped by {name}"
            axes.bar(edges[:-1], counts, edges[1], bottom, align="edge", color=f"C{number}", label=label)
            bottom = [low + count for low, count in zip(bottom, counts, strict=True)]
    for cuts in distances["cuts"].values():
        for cut in cuts:
            axes.axvline(cut, color="black", linestyle="--", linewidth=1)
    axes.set_xlabel("distance of the base's answer from the target (dashed: cut)")
    axes.set_ylabel("rows")
    axes.legend(frameon=False, fontsize="small")


def _heat_map(figure: Figure, axes: Axes, interference: Mapping[str, Any]) -> None:
    """Draw the mean cosine between the gradients of every two relations: red where they work against each other."""
    names, cosines = interference["groups"], interference["cosines"]
    values = [[float("nan") if value is None else value for value in line] for line in cosines]
    largest = max((abs(value) for line in cosines for value in line if value is not None), default=0.0) or 1.0
    image = axes.imshow(values, cmap="RdBu", vmin=-largest, vmax=largest)
    labels = [_short(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=90, fontsize="x-small")
    axes.set_yticks(range(len(names)), labels, fontsize="x-small")
    axes.set_title("which knowledge disturbs which: mean cosine of gradients", fontsize="small")
    figure.colorbar(image, ax=axes, shrink=0.8)


def _shares(axes: Axes, groups: Mapping[str, Any], rows: Mapping[str, Any]) -> None:
    """Draw which share of each group stays; dotted: of all rows."""
    shown = list(zip(groups["names"], groups["read"], groups["kept"], strict=True))[:MOST_BARS]
    shown.sort(key=lambda group: group[2] / group[1])
    axes.barh(range(len(shown)), [100 * kept / read for _, read, kept in shown], color="C0")
    axes.set_yticks(range(len(shown)), [f"{_short(name)} ({read:,})" for name, read, _ in shown], fontsize="x-small")
    axes.axvline(100 * rows["kept"] / rows["read"], color="grey", linestyle=":")
    axes.set_xlim(0, 100)
    largest = f", the {len(shown)} largest of {groups['number']:,}" if groups["number"] > len(shown) else ""
    axes.set_xlabel(f"kept of each {groups['by']}{largest}, % (dotted: of all)")


def _short(name: str) -> str:
    """Cut a long name; "$" would begin a formula."""
    text = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    return (text or "(none)").replace("$", r"\$")
