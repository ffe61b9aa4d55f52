"""The picture of a selection: where the information lies, what the mask keeps of it, how rows and rounds compare."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from knowtune.common.svg import svg_text
from knowtune.selectors.base import Choice

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Kinds of module by what architectures call them; the first that fits, for a BERT's norms stand inside its attention.
KINDS = {
    "norm": r"norm|(^|\.)ln(_|\.|\d)",
    "embedding": r"embed|(^|\.)(wte|wpe|shared)\.",
    "head": r"(^|\.)(lm_head|cls|\w*classifier|score|pooler|qa_outputs|vocab_\w+)\.",
    "attention": r"att(n|ention)|(^|\.)[qkvo]_(proj|lin)\.|(^|\.)(query|key|value|qkv)\.",
    "mlp": r"mlp|ffn|feed_forward|experts|dense|(^|\.)fc\d|(^|\.)(gate|up|down)_proj\.|(^|\.)lin\d",
}
OTHER = "other"
SHARES = {
    "mass_kept": "information kept",
    "parameter_overlap": "parameters as by the round before",
    "row_overlap": "rows as by the round before",
}
DEV_SCORE = {"dev_score": "validation score"}
POINTS = 500  # of a curve; a picture of a million rows is not to hold a million points


def kind_of(parameter: str) -> str:
    """Tell the kind of module that a parameter belongs to by its name."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, parameter.lower())), OTHER)


def layer_of(parameter: str) -> int | None:
    """Tell the layer that a parameter belongs to: the first number in its name, None for one outside of the stack."""
    return next((int(part) for part in parameter.split(".") if part.isdecimal()), None)


def draw_choice(choice: Choice) -> str:
    """Draw a choice as SVG text, with a panel for everything it has."""
    from matplotlib.figure import Figure

    panels: list[Callable[[Axes], None]] = []
    layers = choice.layers
    if layers is not None:
        table = _by_layer(layers)
        if "mass" in table:
            panels.append(lambda axes: _bars(axes, table, "mass", "share of the scores, %"))
        panels.append(lambda axes: _bars(axes, table, "kept", "entries that the mask keeps"))
        panels.append(lambda axes: _shares(axes, table, "kept", "kept"))
        if "protected" in table:
            panels.append(lambda axes: _shares(axes, table, "protected", "protected"))
    if len(choice.scores):
        panels.append(lambda axes: _scores(axes, choice))
    if len(choice.trace) > 1:
        panels.append(lambda axes: _sizes(axes, choice.trace))
        if any(line["mass_kept"] is not None for line in choice.trace):
            panels.append(lambda axes: _over_rounds(axes, choice.trace, SHARES, "share"))
        if any(line["dev_score"] is not None for line in choice.trace):
            panels.append(lambda axes: _over_rounds(axes, choice.trace, DEV_SCORE, "validation score of the pair"))
    num_columns = min(len(panels), 3) or 1
    num_lines = -(-len(panels) // num_columns) or 1
    figure = Figure(figsize=(4.6 * num_columns, 3.4 * num_lines), layout="constrained")
    grid = figure.subplots(num_lines, num_columns, squeeze=False).flatten()
    for axes, panel in zip(grid, panels, strict=False):
        panel(axes)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return svg_text(figure)


def _by_layer(layers: pd.DataFrame) -> pd.DataFrame:
    """Sum the table of parameters over layer and kind; -1 stands for parameters outside of the stack."""
    numbers = [layer_of(name) for name in layers["parameter"]]
    table = layers.drop(columns="parameter").assign(
        layer=[-1 if number is None else number for number in numbers],
        kind=[kind_of(name) for name in layers["parameter"]],
    )
    if "mass" in table:
        table = table.assign(mass=100 * table["mass"])
    return table.groupby(["layer", "kind"], as_index=False).sum()


def _kinds(table: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Return each kind of a table with its colour, the same in all panels, and its lines."""
    known = [*KINDS, OTHER]
    return [(k, f"C{i}", table[table["kind"] == k]) for i, k in enumerate(known) if (table["kind"] == k).any()]


def _name_layers(axes: Axes, table: pd.DataFrame) -> None:
    """Write the layers below, not more than fit."""
    layers = sorted(set(table["layer"]))
    step = -(-len(layers) // 16)
    axes.set_xticks(layers[::step], ["–" if number < 0 else str(number) for number in layers[::step]])
    axes.set_xlabel("layer (–: outside of the stack)" if -1 in layers else "layer")


def _bars(axes: Axes, table: pd.DataFrame, column: str, label: str) -> None:
    """Stack a column of every layer by kind."""
    bottom = dict.fromkeys(table["layer"], 0.0)
    for kind, colour, part in _kinds(table):
        axes.bar(part["layer"], part[column], bottom=[bottom[n] for n in part["layer"]], color=colour, label=kind)
        for layer, value in zip(part["layer"], part[column], strict=True):
            bottom[layer] += float(value)
    _name_layers(axes, table)
    axes.set_ylabel(label)
    axes.legend(frameon=False, fontsize="small")


def _shares(axes: Axes, table: pd.DataFrame, column: str, label: str) -> None:
    """Draw which share of the entries of every kind in every layer a column counts."""
    for _, colour, part in _kinds(table[table["size"] > 0]):
        shares = 100 * part[column] / part["size"]
        for here, style in ((part["layer"] < 0, "o"), (part["layer"] >= 0, "o-")):  # no line into the stack
            axes.plot(part["layer"][here], shares[here], style, color=colour, markersize=3)
    whole = table[[column, "size"]].sum()
    axes.axhline(100 * whole[column] / max(whole["size"], 1), color="grey", linestyle=":")
    _name_layers(axes, table)
    axes.set_ylabel(f"{label}, % of the entries (dotted: of all)")


def _scores(axes: Axes, choice: Choice) -> None:
    """Draw the rows' scores from the highest to the lowest; rows left out are grey."""
    import numpy as np

    order = np.argsort(-choice.scores.to_numpy(), kind="stable")
    positions = np.unique(np.linspace(0, len(order) - 1, min(POINTS, len(order))).round().astype(int))
    values, taken = choice.scores.to_numpy()[order][positions], choice.chosen.to_numpy()[order][positions]
    for mask, colour, label in ((taken, "C0", "chosen"), (~taken, "grey", "left out")):
        if mask.any():
            axes.plot(positions[mask] + 1, values[mask], ".", markersize=4, color=colour, label=label)
    positive = values[values > 0]
    if len(positive) and positive.max() > 100 * positive.min():
        axes.set_yscale("symlog", linthresh=float(positive.min()))
    axes.set_xlabel(f"rows by score ({int(choice.chosen.sum()):,} of {len(order):,} chosen)")
    axes.set_ylabel("score")
    axes.legend(frameon=False, fontsize="small")


def _sizes(axes: Axes, trace: list[dict[str, Any]]) -> None:
    """Draw how rows and parameters shrink over the rounds."""
    rounds = [line["round"] for line in trace]
    axes.plot(rounds, [line["num_rows"] for line in trace], "o-", color="C0", label="rows")
    axes.plot(rounds, [line["num_parameters"] for line in trace], "s-", color="C1", label="parameters")
    axes.set_yscale("log")
    axes.set_xticks(rounds)
    axes.set_xlabel("round")
    axes.set_ylabel("left after the round")
    axes.legend(frameon=False, fontsize="small")


def _over_rounds(axes: Axes, trace: list[dict[str, Any]], names: dict[str, str], label: str) -> None:
    """Draw what the trace says of every round, by its keys and their names in the legend."""
    for number, (key, name) in enumerate(names.items()):
        points = [(line["round"], line[key]) for line in trace if line[key] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=f"C{number}", label=name)
    axes.set_xticks([line["round"] for line in trace])
    axes.set_xlabel("round")
    axes.set_ylabel(label)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize="small")
