"""The chain as a picture: sources, base and rows, filters, selections, runs, mixtures, from left to right.

Seeds share a box. Colours are variables of the page's style, so the picture is light or dark with it; a box that is
pointed at tells the whole of its line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape

from knowtune.lineage.graph import Graph, Node
from knowtune.lineage.words import brief, says

COLUMNS = (("source",), ("base", "rows"), ("filter",), ("selection", "kept"), ("adapter",), ("mixture",), ("version",))
TITLES = ("sources", "base, rows", "filters", "selections, what is kept", "runs", "mixtures", "versions")
WIDTH, HEIGHT, GAP, BETWEEN, TOP = 184, 44, 12, 58, 30  # of a box, between boxes, between columns, above them
EDGE = 8  # around all
LONGEST = 25  # characters of a line in a box
INK = {"base": "--c4", "rows": "--c9", "filter": "--c1", "selection": "--c2", "kept": "--c6", "adapter": "--accent"}


@dataclass
class Box:
    """A member in the picture.

    Args:
        node: the first of its seeds.
        seeds: how many there are.
        above: keys of the boxes that lead to it.
        x: of its left edge.
        y: of its upper one.
    """

    node: Node
    seeds: int
    above: list[str]
    x: float = 0.0
    y: float = 0.0


def draw_graph(graph: Graph, run: str = "") -> str:
    """Draw a graph as SVG; equal graphs give equal bytes.

    Args:
        graph: of the pipeline.
        run: a run or mixture whose way stands out.
    """
    boxes = _boxes(graph)
    chosen = [
        node for node in graph.nodes.values() if run and node.member == run and node.kind in ("adapter", "mixture")
    ]
    lit = {_key(node) for node in graph.back(chosen).nodes.values()}
    columns = [[box for box in boxes.values() if box.node.kind in kinds] for kinds in COLUMNS]
    shown = [(title, column) for title, column in zip(TITLES, columns, strict=True) if column]
    tallest = max((len(column) for _, column in shown), default=1)
    height = TOP + tallest * (HEIGHT + GAP)
    for i, (_, column) in enumerate(shown):
        _place(column, boxes, i, height)
    width = len(shown) * (WIDTH + BETWEEN) - BETWEEN + 2 * EDGE
    parts = [
        f'<svg class="lineage" viewBox="{-EDGE} 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="Where each model comes from" font-family="inherit" font-size="12">'
    ]
    parts += [_text(i * (WIDTH + BETWEEN), 14, title, "--muted") for i, (title, _) in enumerate(shown)]
    parts += [arrow for box in boxes.values() for arrow in _arrows(box, boxes, lit)]
    parts += [_draw(box, 3.0 if key in lit else 1.5) for key, box in boxes.items()]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _boxes(graph: Graph) -> dict[str, Box]:
    """Make a box of each member that is shown, and find what leads to it; what is not shown is passed through."""
    kinds = {kind for column in COLUMNS for kind in column}
    above: dict[str, list[str]] = {}
    for source, target in graph.arrows:
        above.setdefault(target, []).append(source)
    boxes: dict[str, Box] = {}
    for node in graph.nodes.values():
        if node.kind not in kinds:
            continue
        key = _key(node)
        sources = [_key(source) for source in _shown_above(node.id, graph, above, kinds) if _is_drawn(source, node)]
        box = boxes.setdefault(key, Box(node, 0, []))
        box.seeds += 1
        box.above += [source for source in sources if source not in box.above and source != key]
    return boxes


def _shown_above(name: str, graph: Graph, above: Mapping[str, list[str]], kinds: set[str]) -> Iterator[Node]:
    """Yield the nearest nodes above one that have a box."""
    for source in above.get(name, ()):
        node = graph.nodes[source]
        if node.kind in kinds:
            yield node
        else:
            yield from _shown_above(source, graph, above, kinds)


def _is_drawn(source: Node, target: Node) -> bool:
    """Leave out that everything is made on the base: it would be an arrow to every box."""
    return source.kind != "base" or target.kind == "filter"


def _key(node: Node) -> str:
    """Name a box: all seeds of a member share one. A file or a version is no member."""
    return node.id if node.kind in ("source", "version") else f"{node.kind} {node.member}"


def _place(column: list[Box], boxes: Mapping[str, Box], number: int, height: float) -> None:
    """Put a column's boxes below each other, near what leads to them, in the middle of the picture."""

    def middle(box: Box) -> float:
        known = [boxes[key].y for key in box.above]
        return sum(known) / len(known) if known else 0.0

    start = TOP + (height - TOP - len(column) * (HEIGHT + GAP)) / 2
    for i, box in enumerate(sorted(column, key=middle)):
        box.x, box.y = number * (WIDTH + BETWEEN), start + i * (HEIGHT + GAP)


def _arrows(box: Box, boxes: Mapping[str, Box], lit: Collection[str]) -> Iterator[str]:
    """Draw what leads to a box; what leads from one lit box to another stands out."""
    for key in box.above:
        source = boxes[key]
        x1, y1, x2, y2 = source.x + WIDTH, source.y + HEIGHT / 2, box.x, box.y + HEIGHT / 2
        if x2 <= source.x:  # in one column
            continue
        bend = (x1 + x2) / 2
        path = f"M{x1:.0f} {y1:.0f}C{bend:.0f} {y1:.0f} {bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
        ink, width = ("--accent", 2.6) if {key, _key(box.node)} <= set(lit) else ("--line", 1.3)
        yield f'<path d="{path}" fill="none" stroke="var({ink})" stroke-width="{width}"/>'


def _draw(box: Box, width: float) -> str:
    """Draw a box: its name, what its card says as far as it fits, and all of it as a tip."""
    words, name = says(box.node), box.node.member or box.node.kind
    name = box.node.name if box.node.kind in ("source", "version") else name
    seeds = f" × {box.seeds}" if box.seeds > 1 else ""
    ink = INK.get(box.node.kind, "--muted")
    tip = f"{box.node.kind} {name}{f', {box.seeds} seeds' if seeds else ''}{f': {words}' if words else ''}"
    return "\n".join(
        [
            f'<g tabindex="0"><title>{escape(tip)}</title>',
            f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="var(--card)" '
            f'stroke="var({ink})" stroke-width="{width}"/>',
            _text(box.x + 9, box.y + 18, _cut(name + seeds), "--ink", bold=True),
            _text(box.x + 9, box.y + 35, _cut(brief(box.node)), "--muted"),
            "</g>",
        ]
    )


def _text(x: float, y: float, text: str, ink: str, *, bold: bool = False) -> str:
    """Draw a line of text."""
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="var({ink})"{weight}>{escape(text)}</text>'


def _cut(text: str) -> str:
    """Cut what does not fit into a box."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def lineage_table(graph: Graph) -> list[dict[str, str]]:
    """Tell for each run what it is made of, as lines of a table: run, filter, selection, keeps, rows, weights."""
    lines = []
    for member in dict.fromkeys(node.member for node in graph.of("adapter")):
        seeds = graph.of("adapter", member)
        back = graph.back(seeds)
        lines.append(
            {
                "run": member,
                "method": str(seeds[0].facts.get("method", "")),
                "rows": str(seeds[0].facts.get("num_rows", "")),
                "selection": _names(back.of("selection")),
                "filter": _names(back.of("filter")),
                "keeps": "; ".join(says(node) for node in back.of("kept")),
                "base": str(seeds[0].facts.get("base_digest", ""))[:8],
                "weights": ", ".join(str(seed.facts.get("weights_digest", ""))[:8] for seed in seeds),
            }
        )
    return lines


def _names(nodes: Iterable[Node]) -> str:
    """Name members, each once."""
    return ", ".join(dict.fromkeys(node.member for node in nodes))
