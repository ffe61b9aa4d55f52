"""Kinds of knowledge learned one after the other, by one adapter: a training in phases, each of some relations' rows.

A phase is a training of its own, with its own schedule, optimiser and checkpoints, that begins at what the one before
it has left. Random numbers start anew in each, from the run's seed, so that a resumed one goes on to the same bits.
What is read beside the rows, to keep what the base knew, goes on from phase to phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from knowtune.common.errors import UserError, unknown
from knowtune.training.dataset import Rows
from knowtune.training.fit import Fitted, Training, fit

if TYPE_CHECKING:
    import pandas as pd
    import torch


def split_phases(rows: pd.DataFrame, phases: Sequence[Sequence[str]], where: str) -> list[list[int]]:
    """Give the numbers of the rows that each phase learns, in order.

    Args:
        rows: what is trained on, with the column `relation`.
        phases: relations of each phase; one may be in several.
        where: for messages.

    Raises:
        UserError: a relation that no row has, or a row whose relation is in no phase.
    """
    known = rows["relation"].drop_duplicates().tolist()
    named = {relation for phase in phases for relation in phase}
    for relation in sorted(named - set(known)):
        raise unknown(f"relation for {where}", relation, known)
    if lost := [relation for relation in known if relation not in named]:
        num_rows = int(rows["relation"].isin(lost).sum())
        raise UserError(
            f"{where}: {num_rows} rows are of relations that are in no phase: {', '.join(map(repr, lost[:5]))}; "
            "put these into one, or take a selection whose filter leaves them out"
        )
    relations = rows["relation"].tolist()
    return [[i for i, relation in enumerate(relations) if relation in phase] for phase in phases]


def fit_phases(model: torch.nn.Module, training: Training, phases: Sequence[Sequence[int]]) -> Fitted:
    """Train on the rows of one phase after the other; the curve's steps are counted through.

    Args:
        model: as for `fit`.
        training: of all rows.
        phases: the numbers of the rows of each phase.
    """
    curve: list[dict[str, float | int | str]] = []
    num_steps, num_rows, rows = 0, 0, training.rows
    for number, chosen in enumerate(phases, start=1):
        part = replace(
            training,
            rows=Rows([rows.rows[i] for i in chosen], [rows.ids[i] for i in chosen]),
            work=training.work / f"phase-{number}",
            steps_before=num_steps,
            rows_before=num_rows,
            label=f"{training.label}, phase {number} of {len(phases)}",
        )
        fitted = fit(model, part)
        curve += [{**point, "step": int(point["step"]) + num_steps} for point in fitted.curve]
        num_before, num_steps, num_rows = num_steps, num_steps + fitted.num_steps, num_rows + fitted.num_rows
    return replace(fitted, curve=curve, num_steps=num_steps, num_rows=num_rows, num_before=num_before)
