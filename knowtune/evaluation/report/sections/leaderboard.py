"""Section: every model's numbers, sortable, with the smallest difference that is more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from knowtune.evaluation.leaderboard import Entry, arrow, legend, metric_class
from knowtune.evaluation.noise import seed_noise
from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.section import Section


@dataclass(frozen=True)
class Column:
    """A number of the table.

    Args:
        name: of the metric or retention set.
        arrow: ↑ where higher is better, else ↓.
        unit: of what is shown.
        about: what it is, in a few words.
        scale: what values are multiplied by.
        entries: of the whole table.
        signed: whether it is a change.
        least: noise that is known without seeds.
    """

    name: str
    arrow: str
    unit: str
    about: str
    scale: float
    entries: Sequence[Entry]
    signed: bool = False
    least: float = 0.0

    @cached_property
    def noise(self) -> float | None:
        """Return the smallest difference between two models that is more than chance."""
        of_seeds = seed_noise([e.summary[self.name] for e in self.entries if self.name in e.summary])
        return max(of_seeds or 0.0, self.least) or of_seeds

    def write(self, value: float, *, signed: bool = False) -> str:
        """Write a value in the column's unit."""
        digits = 1 if self.scale > 1 else 3
        return f"{round(self.scale * value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"  # never -0.0

    def cell(self, entry: Entry) -> dict[str, Any]:
        """Write a model's number with the half-width of its interval."""
        interval = entry.summary.get(self.name)
        if interval is None:
            return {"text": "–", "value": None}
        half_width = "" if interval["half_width"] is None else f" ± {self.write(interval['half_width'])}"
        without = interval.get("without", 0)
        seeds = f" ({interval['n']} of {interval['n'] + without} seeds)" if without else ""
        text = self.write(interval["mean"], signed=self.signed) + half_width + seeds
        return {"text": text, "value": interval["mean"], "best": entry in self.best}

    @cached_property
    def best(self) -> list[Entry]:
        """Return the models that are best, or not worse than the best by more than the noise."""
        tuned = [e for e in self.entries[1:] if not e.constant and self.name in e.summary]
        if len(tuned) < 2:
            return []
        sign = 1 if self.arrow == "↑" else -1
        merits = [sign * entry.summary[self.name]["mean"] for entry in tuned]
        limit = max(merits) - (self.noise or 0.0)
        return [entry for entry, merit in zip(tuned, merits, strict=True) if merit >= limit]


def columns_of(report: Report) -> list[Column]:
    """Return the columns of a report: its metrics, then its retention sets."""
    columns = []
    for name in report.metrics:
        share = metric_class(name).unit == "share"
        unit, scale = ("%", 100.0) if share else (metric_class(name).unit, 1.0)
        columns.append(Column(name, arrow(name), unit, legend(name, report.known), scale, report.entries))
    for one in report.sets:
        scale, noise = (100.0 if one.counts else 1.0), one.base["noise"]
        columns.append(Column(one.name, one.arrow, one.unit, one.legend(), scale, report.entries, True, noise))
    return columns


def show(report: Report) -> Mapping[str, Any] | None:
    """Make the table: a line for each model."""
    columns = columns_of(report)
    rows = [
        {
            "name": entry.name,
            "about": entry.about,
            "number": None if entry.constant else number,
            "chosen": entry.name == (report.verdict or {}).get("run"),
            "trained": entry.num_trainable,
            "parity": entry.parity,
            "cells": [column.cell(entry) for column in columns],
        }
        for number, entry in enumerate(report.entries)
    ]
    floors = ["–" if column.noise is None else column.write(column.noise) for column in columns]
    tips = {str(number): {"name": e.name, "tip": _tip(report, e, columns)} for number, e in enumerate(report.entries)}
    return {"columns": columns, "rows": rows, "floors": floors, "tips": tips}


def _tip(report: Report, entry: Entry, columns: Sequence[Column]) -> str:
    """Write what a pointer on a model's point shows: its name, what it is, what was learned and what was lost."""
    lost, learned = report.axes
    shown = [c for c in columns if c.name in entry.summary and c.name in (learned, lost)]
    return "\n".join([entry.name, entry.about, *(f"{c.name}: {c.cell(entry)['text']} {c.unit}" for c in shown)])


SECTION = Section("leaderboard", "Leaderboard", "Leaderboard", "leaderboard.html.j2", show, unfolded=True)
