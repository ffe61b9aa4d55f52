"""The leaderboard as text and as one self-contained page; the filters' scores against planted damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.common.statistics import interval_text
from knowtune.common.svg import svg_text
from knowtune.data.label_noise import KINDS
from knowtune.evaluation.metrics import METRICS
from knowtune.evaluation.metrics.base import Metric
from knowtune.registry import member_class

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from knowtune.evaluation.push_away import PushAway


@dataclass(frozen=True)
class Entry:
    """One line of the leaderboard.

    Args:
        name: of the run or mixture.
        about: what it is, in a few words.
        num_trainable: trained parameters, where it was trained.
        parity: largest difference of logits, merged against attached.
        summary: metric -> mean, half_width, n.
        constant: whether it is no model but always one answer.
    """

    name: str
    about: str
    num_trainable: int | None
    parity: float | None
    summary: Mapping[str, Mapping[str, Any]]
    constant: bool = False

    def cell(self, metric: str) -> str:
        """Give a metric as text: percent for shares, mean ± half-width of the 95 % interval where there are seeds."""
        found = self.summary.get(metric)
        if found is None:
            return "–"
        return interval_text(found, share=_metric(metric).unit == "share")


def _metric(name: str) -> type[Metric]:
    """Look a metric's class up."""
    return member_class(METRICS, "metric", name)


def arrow(metric: str) -> str:
    """Give ↑ where higher is better, else ↓."""
    return "↑" if _metric(metric).higher_is_better else "↓"


def leaderboard_rows(entries: Sequence[Entry], metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Give head and rows of the leaderboard as text."""
    head = ["name", "what", "trained", *(f"{metric} {arrow(metric)}" for metric in metrics), "parity"]
    rows = [
        [
            entry.name,
            entry.about,
            "–" if entry.num_trainable is None else f"{entry.num_trainable:,}",
            *(entry.cell(metric) for metric in metrics),
            "–" if entry.parity is None else f"{entry.parity:.1e}",
        ]
        for entry in entries
    ]
    return head, rows


def legend(metric: str, known: Sequence[int] | None) -> str:
    """Say in a few words what a metric is, and of how many known facts the base has any to lose.

    Args:
        metric: its name.
        known: how many known facts the base has right, and how many there are; None where there are none.
    """
    about = _metric(metric).about
    return (
        f"{about}; the base has {known[0]} of {known[1]} right" if known and "known" in _metric(metric).needs else about
    )


def leaderboard_markdown(
    entries: Sequence[Entry],
    metrics: Sequence[str],
    known: Sequence[int] | None = None,
    cautions: Sequence[str] = (),
) -> str:
    """Write the leaderboard as a Markdown table; mean ± half-width of the 95 % interval over seeds.

    Args:
        entries: its lines.
        metrics: its columns.
        known: see `legend`.
        cautions: what makes its numbers say less than they seem to.
    """
    head, rows = leaderboard_rows(entries, metrics)
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *("| " + " | ".join(r) + " |" for r in rows)]
    about = [f"- {m} {arrow(m)}: {legend(m, known)} ({_metric(m).unit})" for m in metrics]
    mind = ["", *(f"Caution: {caution}." for caution in cautions)] if cautions else []
    return "\n".join([*lines, "", *about, *mind, ""])


def score_filter(train: pd.DataFrame, planted: pd.DataFrame, dropped: pd.DataFrame) -> dict[str, Any]:
    """Score what a filter dropped against what was planted.

    Returns:
        Per kind: how many were planted and found, recall, precision (share of the dropped rows that are of the
        kind) and base rate (the precision of dropping by lot); and how many sound rows went with them.
    """
    gone = set(dropped["id"])
    kind_of = dict(zip(planted["id"], planted["kind"], strict=True))
    kinds = {}
    for kind in KINDS:
        ids = [row_id for row_id, found in kind_of.items() if found == kind]
        hit = len(gone.intersection(ids))
        kinds[kind] = {
            "planted": len(ids),
            "found": hit,
            "recall": hit / len(ids) if ids else None,
            "precision": hit / len(gone) if gone else None,
            "base_rate": len(ids) / len(train),
        }
    sound = set(train["id"]) - set(kind_of)
    return {
        "rows": len(train),
        "dropped": len(gone),
        "sound_dropped": len(gone & sound),
        "sound": len(sound),
        "kinds": kinds,
    }


def write_page(
    path: Path,
    entries: Sequence[Entry],
    metrics: Sequence[str],
    filters: Mapping[str, Mapping[str, Any]],
    curves: pd.DataFrame,
    summary: Mapping[str, Any],
    axes: tuple[str, str],
    pictures: Mapping[str, str],
    filter_pictures: Mapping[str, str],
    pushed: PushAway | None,
    known: Sequence[int] | None = None,
    cautions: Sequence[str] = (),
) -> None:
    """Write one HTML page with everything inside: no script, no link to the network.

    Args:
        path: of the page.
        entries: lines of the leaderboard.
        metrics: its columns.
        filters: per filter, see `score_filter`.
        curves: run, seed, split, step, loss.
        summary: what `prepare` counted.
        axes: the metrics of what was lost and of what was learned, drawn against each other.
        pictures: of selections that choose parameters, by name, as SVG.
        filter_pictures: of filters that drop or compare rows, by name, as SVG.
        pushed: which answers moved away from their targets; None where no answers were asked for.
        known: see `legend`.
        cautions: what makes the numbers say less than they seem to.
    """
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    head, rows = leaderboard_rows(entries, metrics)
    page = environment.get_template("report.html.j2").render(
        head=head,
        rows=rows,
        about=[(m, legend(m, known), _metric(m).unit, arrow(m)) for m in metrics],
        filters=filters,
        summary=summary,
        trade=svg_text(_trade_off([e for e in entries if not e.constant], *axes), bbox_inches="tight"),
        curves=svg_text(_learning_curves(curves), bbox_inches="tight"),
        pictures=pictures,
        filter_pictures=filter_pictures,
        pushed=pushed,
        cautions=cautions,
    )
    path.write_text(page, encoding="utf-8")


def _trade_off(entries: Sequence[Entry], lost: str, learned: str) -> Figure:
    """Draw learned (up) against lost (right), with 95 % intervals: the better, the further up and left."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    scales = [100 if _metric(name).unit == "share" else 1 for name in (lost, learned)]
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
        f"{_metric(name).about}, {'%' if _metric(name).unit == 'share' else _metric(name).unit}"
        for name in (lost, learned)
    ]
    axes.set_xlabel(f"{names[0]} (left is better)")
    axes.set_ylabel(names[1])
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return figure


def _learning_curves(curves: pd.DataFrame) -> Figure:
    """Draw the loss of each run over its steps, mean over seeds; validation dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    for number, (name, run) in enumerate(curves.groupby("run", sort=False), start=1):  # C0 is the base's, as beside it
        for split, style in (("train", "-"), ("validation", "--")):
            mean = run[run["split"] == split].groupby("step")["loss"].mean()
            if len(mean):
                axes.plot(mean.index, mean, style, color=f"C{number}", label=name if split == "train" else None)
    axes.set_yscale("log")
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss per learned item (dashed: validation)")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return figure
