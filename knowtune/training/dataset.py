"""Encoded rows as a dataset: weights of target tokens, batches of like length, padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from knowtune.text.encoded import Encoded, Labelled

if TYPE_CHECKING:
    from knowtune.tasks.base import Task


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Encoded rows, and the weight in the loss of every item that is learned of them.

    `weights` may be changed while they are trained on: a step reads them when it needs them.
    """

    def __init__(self, rows: Sequence[Encoded | Labelled], weights: Sequence[float], ids: Sequence[str]) -> None:
        """Keep the rows; all three sequences are of one length. A row's weight is that of all its items."""
        self.rows, self.ids = rows, ids
        self.counts = torch.tensor([row.num_learned for row in rows], dtype=torch.long)  # (rows,)
        self.starts = self.counts.cumsum(0) - self.counts  # (rows,)
        self.weights = torch.tensor(list(weights), dtype=torch.float32).repeat_interleave(self.counts)  # (items,)

    def places(self, indices: Sequence[int]) -> torch.Tensor:
        """Tell where the items of some rows stand in `weights`, row after row."""
        return torch.cat([torch.arange(int(self.counts[i])) + self.starts[i] for i in indices])

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Give one row with its number, for errors can then name it."""
        return {"row": self.rows[index], "index": index}


class LengthBuckets(torch.utils.data.Sampler[int]):
    """Shuffled rows in batches of like length: far less padding, and still another order every epoch.

    Rows are shuffled, sorted by length within windows of `window` batches, cut into batches, and the batches shuffled.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, window: int = 4) -> None:
        """Take the rows' lengths in tokens."""
        self.lengths = torch.tensor(list(lengths))
        self.batch_size, self.seed, self.window, self.epoch = batch_size, seed, window, 0

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch's order is wanted; accelerate calls it, on resume too."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """Yield row numbers, batch after batch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        windows = torch.split(order, self.window * self.batch_size)
        batches = [
            batch
            for rows in windows
            for batch in torch.split(rows[self.lengths[rows].argsort(stable=True)], self.batch_size)
        ]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [batch for batch in batches if len(batch) < self.batch_size]  # at most one, kept last
        for number in torch.randperm(len(full), generator=generator).tolist():
            yield from full[number].tolist()
        for batch in rest:
            yield from batch.tolist()


def collate(samples: list[dict[str, Any]], task: Task) -> dict[str, torch.Tensor]:
    """Pad a batch: what the model reads, labels, and the rows' numbers  # index: (batch,)."""
    rows = [sample["row"] for sample in samples]
    return {
        **task.inputs(rows),
        "labels": task.objective.targets(rows),
        "index": torch.tensor([sample["index"] for sample in samples]),
    }


def _num_learned(rows: Rows) -> int:
    """Count what a set of rows teaches: tokens, or labels."""
    return sum(row.num_learned for row in rows.rows)
