"""Interference between kinds of knowledge: what a relation loses where others are learned beside it.

    alone    share right of the relation's new facts in other paraphrases, by the run that learned this relation and few
             others (a filter with `relations`)
    beside   the same share by a model that learned more: all relations at once, or several such runs mixed

A difference below 0 is interference: the relation was learned, and the others cost it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

ALL = "all of them"


@dataclass(frozen=True)
class Interference:
    """A table as text: a row for each relation, and one of all."""

    head: list[str]
    rows: list[list[str]]


def interference(examples: Mapping[str, pd.DataFrame], alone: Mapping[str, Sequence[str]]) -> Interference | None:
    """Make the table.

    Args:
        examples: model to its results over seeds, with kind, relation and correct.
        alone: run to the relations that it learned alone. Of two runs with a relation that of fewer counts; a run whose
            every relation another learned with fewer is one of the models beside.

    Returns:
        None where no run learned relations alone, or no other model was evaluated.
    """
    teachers: dict[str, str] = {}
    for run in sorted(alone, key=lambda run: len(alone[run])):  # sorted() keeps the order of ties
        for relation in alone[run]:
            teachers.setdefault(relation, run)
    beside = [name for name in examples if name not in teachers.values()]
    if not teachers or not beside:
        return None
    new = {name: table[table["kind"] == "generalisation"] for name, table in examples.items()}
    ordered = [relation for run in alone for relation in alone[run] if teachers[relation] == run]
    own = pd.concat([_of(new[teachers[relation]], [relation]) for relation in ordered])
    rows = [_row(relation, teachers[relation], _of(own, [relation]), new, beside, [relation]) for relation in ordered]
    rows.append(_row(ALL, "each its own", own, new, beside, ordered))
    return Interference(["relation", "learned alone by", "right alone", *beside], rows)


def _row(
    label: str,
    run: str,
    own: pd.DataFrame,
    new: Mapping[str, pd.DataFrame],
    beside: Sequence[str],
    relations: Sequence[str],
) -> list[str]:
    """Write a row: what the relations' own runs have right, and each other model with its difference in points."""
    if own.empty:
        return [label, run, "–", *("–" for _ in beside)]
    alone = float(own["correct"].mean())
    levels = [float(_of(new[name], relations)["correct"].mean()) for name in beside]
    cells = [f"{100 * level:.1f} % ({round(100 * (level - alone), 1) + 0.0:+.1f})" for level in levels]
    return [label, run, f"{100 * alone:.1f} %", *cells]


def _of(table: pd.DataFrame, relations: Sequence[str]) -> pd.DataFrame:
    """Take the examples of some relations."""
    return table[table["relation"].isin(list(relations))]
