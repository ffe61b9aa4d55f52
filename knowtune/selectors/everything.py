"""The selector that chooses every row and every parameter."""

from __future__ import annotations

from knowtune.selectors.base import Choice, Pool, Selector
from knowtune.selectors.trace import Round, choice_of


class Everything(Selector):
    """Choose all."""

    def choose(self, pool: Pool, seed: int) -> Choice:
        """Score every row 1, without a mask."""
        import numpy as np

        num = len(pool.rows)
        return choice_of(pool, np.arange(num), np.ones(num), None, [Round(1, num, None)])
