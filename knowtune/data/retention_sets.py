"""Sets of `evaluate.retention`: rows that are not trained and that the base may know, read, judged and held apart.

A row that cannot be used is rejected with its reason. A row that is trained, or may be replayed, is a fault of the
set: it would say of what is learned again that nothing was forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.common.errors import UserError
from knowtune.data.column_mapping import reader_for
from knowtune.data.contract import REJECTED, ROWS, TEXTS, check
from knowtune.data.draw import among, draw_rows
from knowtune.data.quotes import Quotes
from knowtune.data.raw import texts_table
from knowtune.data.rejection import judge_rows, reject_texts
from knowtune.data.same_prompt import prompt_keys
from knowtune.data.sources import read_table, read_texts
from knowtune.registry import member_class
from knowtune.tasks import TASKS
from knowtune.text.normalize import normal_form

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.tasks.base import Task

NUM_NAMED = 3  # rows in a message
SEED = 0  # of the draw of `max_rows`


@dataclass(frozen=True)
class SetFile:
    """A set as params.yaml names it.

    Args:
        name: of the set.
        path: of its file.
        columns: of rows: prompt, target, and null or a column for id, fact, relation, subject and template; of texts:
            text.
        labels: what the targets of a classification may be; else ().
        max_rows: how many are drawn; None for all.
    """

    name: str
    path: Path
    columns: Mapping[str, Any]
    labels: Sequence[str] = ()
    max_rows: int | None = None

    @property
    def where(self) -> str:
        """The key, for messages."""
        return f"evaluate.retention.{self.name}"


def read_set(file: SetFile, base: Base) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a set.

    Args:
        file: the set.
        base: whose tokenizer, context and task decide which rows can be used.

    Returns:
        Rows of the data contract, of texts id and text; and the rejected ones with their reasons.

    Raises:
        UserError: of the file, see `knowtune.data.sources`; ids twice; or no row is left.
    """
    if "text" in file.columns:
        table = texts_table(read_texts(file.path, file.columns["text"]), file.name)
        kept, rejected = reject_texts(table, file.where)
        schema = TEXTS
    else:
        task: Any = _Labels(file.labels) if file.labels else base.task
        reader = reader_for(file.columns, task, base.tokenizer())
        kept, rejected = judge_rows(read_table(file.path, reader, file.columns, file.name), base, file.where)
        schema = ROWS
    if kept.empty:
        reasons = "; ".join(rejected["reason"].drop_duplicates().head(NUM_NAMED))
        raise UserError(f"{file.where}: {file.path}: no row can be used ({reasons}); give rows with prompt and target")
    rows = draw_rows(kept, file.max_rows, SEED).reset_index(drop=True)
    return check(rows, schema, file.where), check(rejected.reset_index(drop=True), REJECTED, file.where)


class _Labels:
    """Reads cells as labels of a set, as a classification does."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Take the labels."""
        self.task: Task = member_class(TASKS, "task", "classification")(labels=list(labels))

    def read_target(self, cell: Any) -> list[str]:
        """Read a label; see `Task.read_target`."""
        try:
            return self.task.read_target(cell)
        except ValueError as error:
            raise ValueError(str(error).replace("(task.labels)", "(the set's `labels`)")) from None


def refuse_known_rows(
    file: SetFile, rows: pd.DataFrame, others: Mapping[str, pd.DataFrame], texts: Mapping[str, pd.DataFrame]
) -> None:
    """Refuse a set of rows that are trained or may be replayed, by their prompt, or their fact where the set names it.

    So is one of rows that a text quotes, and one of texts that are among those.

    Args:
        file: the set.
        rows: of it.
        others: what is done with them, e.g. "are trained" -> rows.
        texts: what they are, e.g. "texts that may be replayed" -> id and text.

    Raises:
        UserError: names some of the rows.
    """
    lines = []
    if "text" in file.columns:
        own = rows["text"].map(normal_form)
        for what, other in texts.items():
            lines += _overlap(rows, among(own, other["text"].map(normal_form).astype(own.dtype)), f"are {what}")
    else:
        for what, other in others.items():
            both = prompt_keys(rows).isin(prompt_keys(other)).to_numpy()
            if file.columns.get("fact"):
                own, theirs = rows["fact"].map(normal_form), other["fact"].map(normal_form)
                both = both | among(own, theirs.astype(own.dtype))
            lines += _overlap(rows, both, what)
        quotes = Quotes(rows)
        for what, other in texts.items():
            quoting = [(text_id, row) for text_id, text in zip(other["id"], other["text"], strict=True)
                       if (row := quotes.in_text(text)) is not None]  # fmt: skip
            if quoting:
                named = ", ".join(f"{text_id!r} row {row!r}" for text_id, row in quoting[:NUM_NAMED])
                lines.append(f"  {len(quoting)} of {len(other)} {what} quote rows, e.g. {named}")
    if lines:
        raise UserError(
            f"{file.where}: {file.path}: rows would say of what is learned again that nothing was forgotten; take them "
            "out of the set\n" + "\n".join(lines)
        )


def _overlap(rows: pd.DataFrame, both: Any, what: str) -> list[str]:
    """Say how many rows of a set are something else too; nothing where none is."""
    named = ", ".join(repr(row_id) for row_id in rows["id"][both].head(NUM_NAMED))
    return [f"  {both.sum()} of {len(rows)} rows {what} too, e.g. {named}"] if named else []
