"""Sketch the training gradient of every row of a file, part by part, so that a killed run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from knowtune.common.files import whole
from knowtune.common.parts import by_parts
from knowtune.gradients.sketches import Sketcher, sketch_rows

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel

    from knowtune.checkpoints.base import Base


def sketch_file(
    path: Path,
    base: Base,
    model: PreTrainedModel,
    out: Path,
    work: Path,
    *,
    num_rows: int,
    dimensions: int,
    seed: int,
    batch_size: int,
) -> None:
    """Write the sketches of a file's rows as one table, which numpy can map into memory.

    Args:
        path: JSON lines of the data contract.
        base: the pristine base.
        model: its model.
        out: the table  # (rows, dimensions), float32.
        work: where parts go; keyed by everything that decides them.
        num_rows: of the file.
        dimensions: of a sketch.
        seed: of the projections.
        batch_size: rows of a pass.
    """
    tokenizer = base.tokenizer()
    with Sketcher(model, dimensions, seed) as sketcher:

        def sketch_part(rows: pd.DataFrame, label: str, part: Path) -> None:
            encoded = base.task.encode(tokenizer, rows)
            sketches = sketch_rows(sketcher, encoded, base.task, batch_size, label, rows["id"].tolist())
            with part.open("wb") as file:
                np.save(file, sketches.numpy())

        parts = by_parts(path, work, ".npy", "sketches", sketch_part)
    with whole(out) as unfinished:
        table = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float32, shape=(num_rows, dimensions))
        start = 0
        for part in parts:
            sketches = np.load(part)
            table[start : start + len(sketches)] = sketches
            start += len(sketches)
        table.flush()
