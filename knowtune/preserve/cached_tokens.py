"""Compare the tuned model with what lies in the teacher's cache, so that a training step runs no base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from knowtune.common.errors import UserError
from knowtune.common.files import read_card
from knowtune.preserve.comparisons import Tokens
from knowtune.preserve.distill import top_divergences
from knowtune.preserve.teacher_cache import FOLDER, HEADER, header_of, require_tokens, starts_of

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.preserve.options import Distill
    from knowtune.preserve.sources import Material
    from knowtune.preserve.teacher import Inputs
    from knowtune.text.encoded import Encoded, Labelled


class CachedTokens(Tokens):
    """Compares tokens with what lies in a cache: no base is run."""

    runs_base: ClassVar[bool] = False
    teacher = None  # type: ignore[assignment]
    about = "the base's largest probabilities on disk"  # type: ignore[assignment]

    def __init__(self, distill: Distill, folder: Path, sequences: Sequence[Encoded | Labelled]) -> None:
        """Map the cache; see `open_cache`."""
        super().__init__(distill)
        names = ("ids", "log_probs", "log_rest")
        self._arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]
        self._starts, self._counts = starts_of(sequences), [len(row.input_ids) - 1 for row in sequences]

    @property
    def num_tokens(self) -> int:
        """Count the tokens that all of its files have."""
        return min(len(array) for array in self._arrays)

    def of_base(self, plain: Any, inputs: Inputs, drawn: list[int]) -> list[torch.Tensor]:
        """Read ids, log-probabilities and the rest of some sequences  # (read, k), (read, k), (read,)."""
        device = inputs["input_ids"].device
        where = np.concatenate([np.arange(self._counts[i]) + self._starts[i] for i in drawn])
        ids, log_probs, log_rest = (array[where] for array in self._arrays)
        return [torch.from_numpy(part).to(device) for part in (ids.astype(np.int64), log_probs, log_rest)]

    def divergences(self, outputs: Any, base: Any, inputs: Inputs) -> torch.Tensor:
        """Sum over the tokens of each sequence."""
        logits = self.taken(outputs, inputs).flatten(0, 1)
        rows = self.read(inputs).flatten().nonzero().squeeze(1)
        ids, log_p, log_rest = base
        each = top_divergences(logits, rows, ids, log_p, log_rest, self.distill.temperature, self.distill.direction)
        placed = torch.zeros(len(logits), dtype=each.dtype, device=each.device).index_put((rows,), each)
        return placed.view(inputs["input_ids"].shape).sum(1)


def open_cache(base: Base, material: Material, distill: Distill, source: str, where: str) -> CachedTokens:
    """Open the cache that lies beside a run's sequences.

    Args:
        base: the pristine one.
        material: with the folder that the stage `preserve` wrote.
        distill: the run's options.
        source: whose cache.
        where: the key in params.yaml, for messages.

    Raises:
        UserError: there is none, it is not whole, or it is of another base, tokenizer, material or of other options.
    """
    require_tokens(base, where)
    again = "run the preserve stage again (dvc repro)"
    if material.folder is None or not (material.folder / FOLDER / source / HEADER).is_file():
        raise UserError(f"{where}: there is no teacher's cache of {source!r} in {material.folder}; {again}")
    sequences = material.sequences[source]
    folder, expected = material.folder / FOLDER / source, header_of(base, sequences, distill)
    found = read_card(folder / HEADER, {key: type(value) for key, value in expected.items()}, "preserve")
    for key in ("tokenizer", "base", "sequences", "temperature", "top_k", "num_tokens"):
        if found[key] != expected[key]:
            here, there = (str(header[key])[:12] for header in (expected, found))
            raise UserError(f"{folder}: a teacher's cache of another {key} ({there}, here {here}); {again}")
    try:
        cache = CachedTokens(distill, folder, sequences)
        complete = cache.num_tokens == expected["num_tokens"]
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not readable ({error}); {again}") from error
    if not complete:
        raise UserError(f"{folder}: not whole; {again}")
    return cache
