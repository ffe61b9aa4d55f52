"""The leaderboard as rows of text and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knowtune.common.statistics import interval_text
from knowtune.evaluation.metrics import METRICS
from knowtune.evaluation.metrics.base import Metric
from knowtune.evaluation.retention_columns import SetColumn
from knowtune.registry import member_class


@dataclass(frozen=True)
class Entry:
    """One line of the leaderboard.

    Args:
        name: of the run or mixture.
        about: what it is, in a few words.
        num_trainable: trained parameters, where it was trained.
        parity: largest difference of logits, merged against attached.
        summary: metric or retention set -> mean, half_width, n.
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
        interval = self.summary.get(metric)
        if interval is None:
            return "–"
        return interval_text(interval, share=metric_class(metric).unit == "share")


def metric_class(name: str) -> type[Metric]:
    """Look a metric's class up."""
    return member_class(METRICS, "metric", name)


def arrow(metric: str) -> str:
    """Give ↑ where higher is better, else ↓."""
    return "↑" if metric_class(metric).higher_is_better else "↓"


def leaderboard_rows(
    entries: Sequence[Entry], metrics: Sequence[str], sets: Sequence[SetColumn] = ()
) -> tuple[list[str], list[list[str]]]:
    """Give head and rows of the leaderboard as text: the metrics, then the retention sets."""
    columns = [*(f"{metric} {arrow(metric)}" for metric in metrics), *(f"{one.name} {one.arrow}" for one in sets)]
    head = ["name", "what", "trained", *columns, "parity"]
    rows = [
        [
            entry.name,
            entry.about,
            "–" if entry.num_trainable is None else f"{entry.num_trainable:,}",
            *(entry.cell(metric) for metric in metrics),
            *(one.cell(entry.summary.get(one.name)) for one in sets),
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
    about = metric_class(metric).about
    return (
        f"{about}; the base has {known[0]} of {known[1]} right"
        if known and "known" in metric_class(metric).needs
        else about
    )


def leaderboard_markdown(
    entries: Sequence[Entry],
    metrics: Sequence[str],
    known: Sequence[int] | None = None,
    cautions: Sequence[str] = (),
    sets: Sequence[SetColumn] = (),
) -> str:
    """Write the leaderboard as a Markdown table; mean ± half-width of the 95 % interval over seeds.

    Args:
        entries: its lines.
        metrics: its columns.
        known: see `legend`.
        cautions: what makes its numbers say less than they seem to.
        sets: its columns of retention sets.
    """
    head, rows = leaderboard_rows(entries, metrics, sets)
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *("| " + " | ".join(r) + " |" for r in rows)]
    about = [f"- {m} {arrow(m)}: {legend(m, known)} ({metric_class(m).unit})" for m in metrics]
    about += [f"- {one.name} {one.arrow}: {one.legend()} ({one.unit})" for one in sets]
    mind = ["", *(f"Caution: {caution}." for caution in cautions)] if cautions else []
    return "\n".join([*lines, "", *about, *mind, ""])
