"""Plots of the report: learned against kept, and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from knowtune.evaluation.leaderboard import Entry, metric_class

if TYPE_CHECKING:
    import pandas as pd


def plot_frontier(
    entries: Sequence[Entry], lost: str, learned: str, interpolations: Mapping[str, pd.DataFrame] | None = None
) -> Figure:
    """Draw kept (up) against learned (right), with 95 % intervals over seeds: the better, the further up and right.

    Args:
        entries: the base, runs and mixtures; those without both numbers are left out.
        lost: the metric of what was lost; a share is drawn as what is kept of it, anything else downwards.
        learned: the metric of what was learned.
        interpolations: of mixtures that chose their alpha, what every alpha learned and forgot on the rows of that
            choice (seed, alpha, learned, forgotten, chosen); drawn dashed, as the mean over seeds.
    """
    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    right, up = _Scale(learned), _Scale(lost, kept=metric_class(lost).unit == "share")
    for number, entry in enumerate(entries):
        if not {lost, learned} <= set(entry.summary):
            continue
        x, y = entry.summary[learned], entry.summary[lost]
        axes.errorbar(
            right.of(x["mean"]),
            up.of(y["mean"]),
            xerr=right.factor * (x["half_width"] or 0),
            yerr=up.factor * (y["half_width"] or 0),
            fmt="o" if entry.num_trainable else ("s" if entry.name == "base" else "D"),
            capsize=3,
            color="black" if entry.name == "base" else f"C{number}",
            label=entry.name,
        )
        if entry.name == "base":
            axes.axhline(up.of(y["mean"]), color="black", linewidth=0.8, alpha=0.4)
        if interpolations and entry.name in interpolations:
            mean = interpolations[entry.name].groupby("alpha")[["learned", "forgotten"]].mean()
            points = [(right.of(row["learned"]), up.of(row["forgotten"])) for _, row in mean.iterrows()]
            axes.plot(*zip(*points, strict=True), ".--", color=f"C{number}", linewidth=1, alpha=0.7)
            for alpha, point in zip(mean.index, points, strict=True):
                axes.annotate(f"{alpha:g}", point, (3, 3), textcoords="offset points", fontsize=7)
    axes.set_xlabel(f"{right.label} (right is better)")
    axes.set_ylabel(f"{up.label} (up is better)")
    axes.yaxis.set_inverted(not up.kept)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return figure


@dataclass(frozen=True)
class _Scale:
    """How a metric stands on an axis: shares in percent, and what was lost as what was kept."""

    metric: str
    kept: bool = False

    @property
    def factor(self) -> float:
        return 100 if metric_class(self.metric).unit == "share" else 1

    @property
    def label(self) -> str:
        unit = "%" if metric_class(self.metric).unit == "share" else metric_class(self.metric).unit
        about = metric_class(self.metric).about
        return f"kept, {unit} (100 % - {self.metric})" if self.kept else f"{about}, {unit}"

    def of(self, value: float) -> float:
        return self.factor * (1 - value if self.kept else value)


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


def plot_similarity(curves: pd.DataFrame) -> Figure | None:
    """Draw how like the words that it began at a run's virtual tokens are, over its steps, mean over seeds; or None."""
    followed = curves[curves["split"] == "similarity"]
    if followed.empty:
        return None
    figure = Figure(figsize=(6.4, 3.2))
    axes = figure.subplots()
    for number, (name, _) in enumerate(curves.groupby("run", sort=False), start=1):  # a run's colour is its own
        mean = followed[followed["run"] == name].groupby("step")["loss"].mean()
        if len(mean):
            axes.plot([0, *mean.index], [1.0, *mean], color=f"C{number}", label=name)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("cosine with the text, mean over its tokens")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure
