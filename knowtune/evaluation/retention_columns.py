"""The leaderboard's columns of retention sets, and a table of what each model lost and gained on them, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knowtune.common.statistics import interval_text

ABOUT = {
    "text": "change of loss against the base",
    "facts": "facts right, change against the base",
    "classification": "labels right, change against the base",
    "harness": "documents right, change against the base",
}


@dataclass(frozen=True)
class SetColumn:
    """A column: how a model's level on a set differs from the base's.

    Args:
        name: of the set.
        base: what the base is on it, see `knowtune.evaluation.retention.describe`.
    """

    name: str
    base: Mapping[str, Any]

    @property
    def counts(self) -> bool:
        """Whether rows are right or wrong, so that differences are in points of a hundred."""
        return "right" in self.base

    @property
    def arrow(self) -> str:
        """Give ↑ where higher is better, else ↓."""
        return "↑" if self.counts else "↓"

    @property
    def unit(self) -> str:
        """Name the unit of a difference."""
        return "points" if self.counts else "nats per token"

    def cell(self, interval: Mapping[str, Any] | None) -> str:
        """Write a difference with its interval over seeds, and behind it the noise floor in brackets."""
        if interval is None:
            return "–"
        scale, digits = (100, 1) if self.counts else (1, 3)
        half_width = "" if interval["half_width"] is None else f" ± {scale * interval['half_width']:.{digits}f}"
        mean = round(scale * interval["mean"], digits) + 0.0  # never -0.0
        return f"{mean:+.{digits}f}{half_width} [{scale * self.base['noise']:.{digits}f}]"

    def legend(self) -> str:
        """Say what the column is, and what the base has."""
        num = self.base["num"]
        of_base = f"the base has {self.base['right']} of {num} right" if self.counts else (
            f"the base reads {num} texts with {self.base['level']:.3f}")  # fmt: skip
        return f"{ABOUT[self.base['kind']]}, in brackets the noise floor; {of_base}"

    def caution(self) -> str | None:
        """Say what makes the column say less than it seems to."""
        if self.counts and not self.base["right"]:
            return f"the base has none of the {self.base['num']} rows of {self.name} right: nothing can be lost there"
        rejected = self.base["rejected"]
        return f"{rejected} rows of {self.name} could not be used, see rejected.jsonl" if rejected else None


def set_rows(columns: Sequence[SetColumn], models: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Give a row for each set and model: set, model, change, lost of what the base has right, gained of the rest.

    Args:
        columns: of the sets.
        models: name of a model to set to its `change`, `lost` and `gained` over seeds.
    """
    rows = []
    for column in columns:
        for name, sets in models.items():
            found = sets.get(column.name, {})
            shares = [found.get(key) for key in ("lost", "gained")]
            parts = ["–" if share is None else interval_text(share, share=True) for share in shares]
            rows.append([column.name, name, column.cell(found.get("change")), *parts])
    return rows
