"""Filter a file of training rows: only the columns that the filters read are in memory, in pyarrow's compact form.

The rows themselves stream from file to file, a chunk at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from knowtune.common.files import read_chunks, row_writer, write_json, write_rows
from knowtune.data.contract import ANSWERS, ROW_COLUMNS, ROWS, check, column_types
from knowtune.filters.base import Seen
from knowtune.filters.chain import decide, split
from knowtune.filters.summary import row_cosines, summarise

if TYPE_CHECKING:
    from knowtune.filters.chain import Chain, Limits


def filter_file(train: Path, answers: Path, out: Path, chain: Chain, where: str, limits: Limits) -> dict[str, Any]:
    """Write each row to kept.jsonl or dropped.jsonl, with numbers beside them, and return those of summary.json.

    Args:
        train: file of training rows.
        answers: folder of the base's answers to them.
        out: folder for kept.jsonl, dropped.jsonl, summary.json, and cosines.jsonl where a filter compares gradients.
        chain: filters in order.
        where: what an error names, e.g. "filter NAME".
        limits: within which the chain decides.

    Raises:
        UserError: see `knowtune.filters.chain.decide`; or a file is missing or broken.
    """
    rows = _read_columns(train, ROWS, _columns(chain))
    seen = _open_answers(answers, chain)
    verdict = decide(rows, seen, chain, where, limits)
    cosines = row_cosines(seen, verdict, chain)
    summary = summarise(rows, seen, verdict, chain, limits, cosines)
    if cosines is not None:
        write_rows(out / "cosines.jsonl", cosines)
    del rows, seen, cosines  # before whole rows are read
    _stream(train, verdict, chain, out, where)
    write_json(out / "summary.json", summary)
    return summary


def _columns(chain: Chain) -> list[str]:
    """List the columns of training rows that a chain of filters and its summary read, in their order."""
    read = {"id", "relation", "target"}
    for _, member in chain:
        read |= set(ROW_COLUMNS if member.reads is None else member.reads)
    return [name for name in ROW_COLUMNS if name in read]


def _read_columns(path: Path, schema: Any, columns: list[str]) -> pd.DataFrame:
    """Read some columns of a file of rows as one compact table, and check them."""
    table = pd.concat(read_chunks(path, column_types(schema, columns)), ignore_index=True)
    return check(table, schema.select_columns(columns), str(path))


def _open_answers(answers: Path, chain: Chain) -> Seen:
    """Read the base's answers; sketches stay on the disk."""
    path = answers / "sketches.npy"
    wanted = any("sketches" in member.needs for _, member in chain) and path.exists()
    sketches = np.load(path, mmap_mode="r") if wanted else None
    return Seen(_read_columns(answers / "answers.jsonl", ANSWERS, list(ANSWERS.columns)), sketches)


def _stream(train: Path, verdict: pd.DataFrame, chain: Chain, out: Path, where: str) -> None:
    """Write the rows, a checked chunk at a time."""
    start = 0
    with row_writer(out / "kept.jsonl") as keep, row_writer(out / "dropped.jsonl") as drop:
        for rows in read_chunks(train, column_types(ROWS)):
            kept, dropped = split(rows, verdict.iloc[start : start + len(rows)], chain, where)
            start += len(rows)
            keep(kept)
            drop(dropped)
    if start != len(verdict):
        raise AssertionError("kept + dropped != read")
