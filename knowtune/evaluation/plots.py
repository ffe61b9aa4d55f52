"""Plots of the report: learned against forgotten, and learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from knowtune.evaluation.leaderboard import Entry, metric_class

if TYPE_CHECKING:
    import pandas as pd


def plot_trade_off(entries: Sequence[Entry], lost: str, learned: str) -> Figure:
    """Draw learned (up) against lost (right), with 95 % intervals: the better, the further up and left."""
    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    scales = [100 if metric_class(name).unit == "share" else 1 for name in (lost, learned)]
    for number, entry in enumerate(entries):
        if not {lost, learned} <= set(entry.summary):
            continue
        x, y = entry.summary[lost], entry.summary[learned]
        axes.errorbar(
            scales[0] * x["mean"],
            scales[1] * y["mean"],
            xerr=scales[0] * (x["half_width"] or 0),
            yerr=scales[1] * (y["half_width"] or 0),
            fmt="o" if entry.num_trainable else ("s" if entry.name == "base" else "D"),
            capsize=3,
            color=f"C{number}",
            label=entry.name,
        )
    names = [
        f"{metric_class(name).about}, {'%' if metric_class(name).unit == 'share' else metric_class(name).unit}"
        for name in (lost, learned)
    ]
    axes.set_xlabel(f"{names[0]} (left is better)")
    axes.set_ylabel(names[1])
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return figure


def plot_learning_curves(curves: pd.DataFrame) -> Figure:
    """Draw the loss of each run over its steps, mean over seeds; validation dashed."""
    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    for number, (name, run) in enumerate(curves.groupby("run", sort=False), start=1):  # C0 is the base's, as beside it
        for split, style in (("train", "-"), ("validation", "--")):
            mean = run[run["split"] == split].groupby("step")["loss"].mean()
            if len(mean):
                axes.plot(mean.index, mean, style, color=f"C{number}", label=name if split == "train" else None)
    axes.set_yscale("log")
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss per target (dashed: validation)")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return figure
