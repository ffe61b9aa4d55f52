"""Which of the rows that may be replayed the pristine base has right: the others say nothing of what it knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.common.files import read_rows, write_rows

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base


def split_by_base(
    rows: pd.DataFrame, base: Base, model: Any, batch_size: int, work: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split rows into those that the base has right and those that it has wrong.

    All are taken for right where being right means nothing: the task is a score, or the head is new.

    Args:
        rows: of the data contract.
        base: the pristine base.
        model: its model; None where there are no rows.
        batch_size: rows per forward pass.
        work: where the judgement stays; keyed by everything that decides it.
    """
    if rows.empty or base.task.numeric or model.new_weights:
        return rows, rows.head(0)
    path = work / "judged.jsonl"
    if not path.is_file():
        judged = base.task.evaluator.judge(model, base.tokenizer(), rows, batch_size, "rehearse: known rows")
        write_rows(path, pd.DataFrame({"id": rows["id"], "correct": judged["correct"]}))
    right = read_rows(path)["correct"].to_numpy(dtype=bool)
    return rows[right].reset_index(drop=True), rows[~right].reset_index(drop=True)
