"""From params and files to the library's objects: the sets of `evaluate.retention`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from knowtune.common.files import read_rows
from knowtune.evaluation.harness import HarnessTask
from knowtune.evaluation.retention import Reading, RetentionSet

if TYPE_CHECKING:
    import pandas as pd

    from stages.core.schema import HarnessSet, Params, RetentionParams


def set_of(name: str, section: RetentionParams, rows: pd.DataFrame) -> RetentionSet:
    """Make a set of its rows."""
    labels = section.labels if section.kind == "classification" else ()
    task = task_of(name, section) if section.kind == "harness" else None
    return RetentionSet(name, section.kind, rows, labels, task)


def task_of(name: str, section: HarnessSet) -> HarnessTask:
    """Name a task of the harness."""
    where, settings = f"evaluate.retention.{name}", section.model_dump(exclude={"kind", "path"})
    return HarnessTask(where, Path(section.path), **settings)


def reading_of(params: Params) -> Reading:
    """Say how sets are read."""
    return Reading(params.evaluate.batch_size, params.evaluate.max_text_tokens)


def read_set_of(name: str, section: RetentionParams, folder: Path) -> tuple[RetentionSet, pd.DataFrame]:
    """Read a set, and the pristine base's results on it, as the stage `retention` left them in a folder."""
    return set_of(name, section, read_rows(folder / "rows.jsonl")), read_rows(folder / "examples.jsonl")
