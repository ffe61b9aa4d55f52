"""A source as it was read: rows of the data contract before any is judged, and the reasons that reading found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from knowtune.data.contract import ROW_COLUMNS
from knowtune.data.rejection import fault_of_text
from knowtune.text.cells import storable

READ_COLUMNS = [*ROW_COLUMNS, "reason"]


@dataclass(frozen=True)
class Raw:
    """A source as rows.

    Args:
        train: with READ_COLUMNS, as the next three; `reason` is "" where reading found no fault.
        validation: rows for the validation loss.
        test: rows to be judged.
        known: rows that the base knows.
        replay: rows that the base knows, given to be replayed.
        texts: general texts: id, text, and a reason as above.
        replay_texts: general texts given to be replayed.
        by_fact: whether rows belong to facts of several paraphrases, so that what is tested must have been trained.
        spare_texts: general texts that measure nothing, a share of which may be replayed; None: a share of `texts`.
    """

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    known: pd.DataFrame
    replay: pd.DataFrame
    texts: pd.DataFrame
    replay_texts: pd.DataFrame
    by_fact: bool
    spare_texts: pd.DataFrame | None = None


@dataclass(frozen=True)
class Reading:
    """A row as a reader makes it of a record.

    Args:
        cells: ROW_COLUMNS without id; "" for a fact of its own.
        reason: why the row cannot be used, or "".
        role: what the row is for, of ROLES; None for what its file is for.
        part: tells this row from the others of its record, which share its id; "" where there is but one.
    """

    cells: dict[str, str]
    reason: str = ""
    role: str | None = None
    part: str = ""


# Turns a record into its rows; raises ValueError for what is wrong with the file.
Reader = Callable[[dict[str, Any]], list[Reading]]


def texts_table(texts: Iterable[str], name: str = "text") -> pd.DataFrame:
    """Number texts as `name:0` and so on, and say which cannot be used and why."""
    every = list(texts)
    columns = {
        "id": [f"{name}:{i}" for i in range(len(every))],
        "text": list(map(storable, every)),
        "reason": list(map(fault_of_text, every)),
    }
    return pd.DataFrame(columns, dtype="str")
