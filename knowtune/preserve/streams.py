"""Which sequences a step reads beside its rows: an endless shuffle that needs no memory.

A stream is an endless row of sequences, pass after pass over all of them, each pass in an order of its own. After R
rows of the task a training has read the first  round(share R)  of them: so a step reads `share` sequences for each of
its rows, a smaller last step in proportion, and a share that makes less than one a step comes out right over several.

What a step reads is a function of the seed and of the rows before it alone. So a training that goes on after a kill
reads what it would have read, with nothing saved; and how a step is shared out among micro-batches and processes
changes nothing but where a sequence is read. Within a step those of like length are read together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from knowtune.preserve.part import Part
    from knowtune.text.encoded import Encoded, Labelled


class Stream:
    """Sequences in an endless seeded shuffle, of which each step reads its share.

    Attributes:
        sequences: the sequences.
        ids: theirs.
        share: how many for each row of the task.
    """

    def __init__(
        self, sequences: Sequence[Encoded | Labelled], ids: Sequence[str], share: float, seed: list[int]
    ) -> None:
        """Take what is read; streams of other seeds read in other orders."""
        self.sequences, self.ids, self.share, self._seed = sequences, ids, share, seed
        self.lengths = [len(sequence.input_ids) for sequence in sequences]
        self._order = lru_cache(maxsize=4)(self._shuffle)

    def _shuffle(self, number: int) -> list[int]:
        """Give the order of a pass over all sequences."""
        order: list[int] = np.random.default_rng([*self._seed, number]).permutation(len(self.sequences)).tolist()
        return order

    def of_step(self, part: Part) -> list[int]:
        """Give what all parts of a step read together, as numbers of sequences, the shortest first."""
        start, stop = (math.floor(self.share * rows + 0.5) for rows in (part.rows_before, part.rows_before + part.rows))
        size = len(self.sequences)
        drawn = [self._order(position // size)[position % size] for position in range(start, stop)]
        return sorted(drawn, key=lambda i: (self.lengths[i], i))

    def of_part(self, part: Part) -> list[int]:
        """Give what this part of a step reads: an even share of it, of like length; [] where the step has too few."""
        drawn = self.of_step(part)
        start, stop = (len(drawn) * number // part.parts for number in (part.number, part.number + 1))
        return drawn[start:stop]
