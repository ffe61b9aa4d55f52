"""The selector that chooses every row and every parameter, but for what is protected."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from knowtune.selectors.base import Choice, Pool
from knowtune.selectors.scope import Scoped
from knowtune.selectors.trace import Round, choice_of, describe


class Everything(Scoped):
    """Choose all that is not protected."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse what has no effect."""
        if self.protect is None and (self.pattern is not None or self.granularity != "global"):
            raise ValueError("pattern and granularity only with protect")
        return self

    @property
    def masks(self) -> bool:
        """What is protected makes a mask of the rest."""
        return self.protect is not None

    def choose(self, pool: Pool, seed: int) -> Choice:
        """Score every row 1; without anything protected there is no mask."""
        import numpy as np

        num = len(pool.rows)
        rows, scores = np.arange(num), np.ones(num)
        if not self.masks:
            return choice_of(pool, rows, scores, None, [Round(1, num, None)])
        from knowtune.models import masks

        protection = self.protection(pool)
        assert protection.free is not None
        trace = [Round(1, num, masks.num_entries(protection.free))]
        layers = describe(pool.shapes, protection.free)
        return choice_of(pool, rows, scores, protection.free, trace, layers, protection)
