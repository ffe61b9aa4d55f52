"""The pristine base's answer to every training row, part by part: a file each, so that a killed run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from knowtune.common.files import read_rows, write_rows
from knowtune.common.parts import by_parts
from knowtune.data.contract import ANSWERS, ROWS, check
from knowtune.tasks.answers import Decoding, answer_distances, answer_rows
from knowtune.tasks.right_answers import right_answers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from knowtune.checkpoints.base import Base
    from knowtune.semantics.distance import Vectors


@dataclass(frozen=True)
class Counts:
    """How many rows there are, how many answers begin with a right one, and how many are not empty."""

    rows: int
    correct: int
    not_empty: int


def answer_file(
    path: Path, base: Base, model: PreTrainedModel, vectors: Vectors, decoding: Decoding, work: Path
) -> tuple[list[Path], Counts]:
    """Let the base answer a file of rows.

    Args:
        path: JSON lines of the data contract.
        base: the pristine base.
        model: its model.
        vectors: its representation, to measure answers by.
        decoding: see `Decoding`.
        work: where parts go; keyed by everything that decides them.

    Returns:
        A file for each part, in the order of the rows: id, answer, correct, num_tokens, distance; and counts.
    """
    evaluator, tokenizer = base.task.evaluator, base.tokenizer()

    def answer_part(rows: pd.DataFrame, label: str, part: Path) -> None:
        rows = check(rows, ROWS, str(path))
        answers = answer_rows(evaluator, model, tokenizer, rows, decoding, label)
        columns = {
            "id": rows["id"],
            "answer": answers,
            "correct": [begins_right(*pair) for pair in zip(answers, right_answers(rows), strict=True)],
            "num_tokens": [len(row.input_ids) for row in base.task.encode(tokenizer, rows)],
            "distance": answer_distances(evaluator, tokenizer, rows, answers, vectors, decoding),
        }
        write_rows(part, check(pd.DataFrame(columns), ANSWERS, "answers"))

    parts = by_parts(path, work, ".jsonl", "answers", answer_part)
    return parts, _count(parts)


def begins_right(answer: str, rights: Sequence[str]) -> bool:
    """Tell whether an answer begins with a right one, whatever white space goes before it."""
    start = answer.lstrip().casefold()
    return any(start.startswith(right.lstrip().casefold()) for right in rights if right.strip())


def _count(parts: Sequence[Path]) -> Counts:
    """Count answers, one part in memory at a time."""
    rows = correct = not_empty = 0
    for part in parts:
        table = read_rows(part)
        rows, correct = rows + len(table), correct + int(table["correct"].sum())
        not_empty += int((table["answer"] != "").sum())
    return Counts(rows, correct, not_empty)
