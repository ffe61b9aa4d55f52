"""Try a proposal on the first rows: read and prepare them as the pipeline would, with the model's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cli.proposing.columns import look
from cli.proposing.data import LOOKED
from cli.proposing.names import GENERAL, find_column
from knowtune.common.errors import UserError
from knowtune.data.records import read_records
from knowtune.tasks.base import Task
from knowtune.text.json_cells import to_json

HELD_OUT = {"validation": 0.05, "test": 0.1}


@dataclass(frozen=True)
class Trial:
    """What came of it.

    Args:
        rejected: reason -> number of rows.
        share: of the rows, or of the general texts where more of these are rejected.
        several: share of the rows whose prompt has other rows with other targets.
        target_tokens: that nearly every target fits into.
    """

    rejected: Mapping[str, int]
    share: float
    several: float
    target_tokens: int


def text_column(path: Path) -> str:
    """Find the column of running text in a file of general text.

    Raises:
        UserError: it has none.
    """
    columns = look([record for _, record in islice(read_records(path), 100)])
    texts = {column.name: column for column in columns if column.kind == "text" and column.everywhere}
    column = find_column(texts, GENERAL) or max(texts.values(), key=lambda column: column.words, default=None)
    if column is None:
        has = ", ".join(column.name for column in columns)
        raise UserError(f"GENERAL: {path}: no column of texts; it has {has}")
    return column.name


def try_out(
    records: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Any],
    task: Task,
    card: dict[str, Any],
    model: Path,
    text: Path,
    shown: str,
) -> Trial:
    """Read and prepare rows.

    Args:
        records: as they stand in the data.
        columns: the mapping.
        task: reads and encodes targets.
        card: of the model.
        model: its folder.
        text: a file of general text.
        shown: what errors call the data.

    Raises:
        UserError: the pipeline would stop, e.g. for a model without a chat template, or for want of rows.
    """
    from knowtune.checkpoints.base import Base
    from knowtune.data.column_mapping import reader_for
    from knowtune.data.prepare import Limits, prepare
    from knowtune.data.same_prompt import prompt_keys
    from knowtune.data.sources import read_files
    from knowtune.models.compute import Compute

    base = Base(card, model, Compute(), task)
    tokenizer = base.tokenizer()
    limits = Limits(0, None, None, None, None, max_rejected=1.0)
    with TemporaryDirectory() as folder:
        rows, texts = Path(folder) / "rows.jsonl", Path(folder) / "text.jsonl"
        _write(rows, records)
        _write(texts, [record for _, record in islice(read_records(text), LOOKED)])
        try:
            reader = reader_for(columns, task, tokenizer)
            raw = read_files(Path(folder), {"train": rows.name}, reader, columns, texts, text_column(text))
            made = prepare(raw, base, limits, dict.fromkeys(("wrong", "contradictions", "duplicates", "empties"), 0.0))
        except UserError as error:
            raise UserError(str(error).replace(str(rows), shown).replace(str(texts), str(text))) from None
    of_texts = made.rejected["reason"].str.startswith("retention")
    reasons = made.rejected["reason"][~of_texts]
    share = max(len(reasons) / len(records), int(of_texts.sum()) / max(1, len(raw.texts)))
    counts = {str(reason): int(count) for reason, count in reasons.value_counts().items()}
    tokens = tokenizer(made.train["target"].tolist(), add_special_tokens=False)["input_ids"]
    longest = sorted(map(len, tokens))[int(0.99 * (len(tokens) - 1))]
    targets = made.train["target"].groupby(prompt_keys(made.train)).transform("nunique")
    return Trial(counts, share, float((targets > 1).mean()), longest)


def _write(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines that read back as the same cells."""
    path.write_text("".join(to_json(record) + "\n" for record in records), encoding="utf-8")
