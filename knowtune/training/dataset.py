"""Encoded rows as a dataset: weights of target tokens, batches of like length, padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.errors import UserError
from knowtune.text.encoded import Encoded, Labelled

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from knowtune.checkpoints.base import Base
    from knowtune.tasks.base import Task


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Encoded rows, and the weight in the loss of each of their target tokens; a classifier's row has one, its label.

    `weights` may be changed while they are trained on: a step reads them when it needs them.

    Attributes:
        rows: the encoded rows.
        ids: theirs.
        counts: how many target tokens each has  # (rows,).
        starts: where those of each start in `weights`  # (rows,).
        weights: of the target tokens, row after row  # (target tokens,), float32.
    """

    def __init__(
        self, rows: Sequence[Encoded | Labelled], ids: Sequence[str], weights: Sequence[float] | None = None
    ) -> None:
        """Keep the rows.

        Args:
            rows: the encoded rows.
            ids: theirs.
            weights: of rows; that of a row is that of all its target tokens. None: 1 everywhere.
        """
        self.rows, self.ids = rows, ids
        self.counts = torch.tensor([row.num_learned for row in rows], dtype=torch.long)
        self.starts = self.counts.cumsum(0) - self.counts
        by_row = torch.ones(len(rows)) if weights is None else torch.tensor(list(weights), dtype=torch.float32)
        self.weights = by_row.repeat_interleave(self.counts)

    @property
    def num_learned(self) -> int:
        """Count the target tokens of all rows."""
        return int(self.counts.sum())

    def positions(self, indices: Sequence[int]) -> torch.Tensor:
        """Give the positions in `weights` of some rows' target tokens, row after row."""
        return torch.cat([torch.arange(int(self.counts[i])) + self.starts[i] for i in indices])

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Give one row with its number: its weights are found by that, and errors name the row."""
        return {"row": self.rows[index], "index": index}


class LengthBuckets(torch.utils.data.Sampler[int]):
    """Shuffled rows in batches of like length: far less padding, and still another order every epoch.

    Rows are shuffled, sorted by length within windows of `window` batches, cut into batches, and the batches shuffled.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, window: int) -> None:
        """Take the rows' lengths in tokens."""
        self.lengths = torch.tensor(list(lengths))
        self.batch_size, self.seed, self.window, self.epoch = batch_size, seed, window, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order follows; accelerate calls it, on resume too."""
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


def encode(
    tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame, base: Base, label: str, virtual_tokens: int = 0
) -> Rows:
    """Tokenise rows, each of weight 1; one that is too long or teaches nothing stops the run.

    Args:
        tokenizer: the base's.
        rows: of the data contract.
        base: whose context and task decide.
        label: for messages.
        virtual_tokens: positions of the context that the method takes.

    Raises:
        UserError: says how many rows are at fault, and names one.
    """
    encoded, ids = base.task.encode(tokenizer, rows), rows["id"].tolist()
    longest = base.context - virtual_tokens
    less = f", of which the method's virtual tokens take {virtual_tokens}" if virtual_tokens else ""
    faults = {
        f"longer than the base's context of {base.context} tokens{less}": [len(r.input_ids) > longest for r in encoded],
        "without anything to learn": [not row.num_learned for row in encoded],
    }
    for fault, faulty in faults.items():
        if any(faulty):
            raise UserError(
                f"{label}: {sum(faulty)} rows are {fault}, e.g. {ids[faulty.index(True)]!r}; "
                "use a selection whose filter has `clean`"
            )
    return Rows(encoded, ids)
