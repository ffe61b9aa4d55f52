"""The selector that knows nothing: random rows and parameters. It is there to be beaten, and often is not."""

from __future__ import annotations

from typing import ClassVar

from knowtune.selectors.base import Choice, Pool
from knowtune.selectors.budgets import Budgeted
from knowtune.selectors.trace import Round, choice_of, describe


class Random(Budgeted):
    """Draw rows and parameters uniformly, seeded. Without a budget all may be trained that are not protected."""

    needs_budget: ClassVar[bool] = False

    def choose(self, pool: Pool, seed: int) -> Choice:
        """Score rows with uniform numbers and choose the highest; draw exactly the budget of parameters."""
        import numpy as np

        from knowtune.models import masks

        generator = np.random.default_rng(seed)
        chosen, scores = self.draw_rows(pool, generator)
        if not self.masks:
            return choice_of(pool, chosen, scores, None, [Round(1, len(chosen), None)])
        draw = masks.random_entries if self.granularity == "global" else masks.random_entries_per_parameter
        num, protection = self.num_chosen(pool), self.protection(pool)
        mask = draw(pool.shapes, num, generator, protection.free)
        trace = [Round(1, len(chosen), masks.num_entries(mask))]
        return choice_of(pool, chosen, scores, mask, trace, describe(pool.shapes, mask), protection)
