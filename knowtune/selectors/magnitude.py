"""The selector that trains the largest weights: a baseline that knows the model and not the rows.

The score of an entry is its size, |theta_j|. Rows are random, as those of `random`.
"""

from __future__ import annotations

from knowtune.selectors.base import Choice, Pool
from knowtune.selectors.budgets import Budgeted
from knowtune.selectors.trace import Round, choice_of, describe


class Magnitude(Budgeted):
    """Choose the entries with the largest absolute value; rows at random."""

    def choose(self, pool: Pool, seed: int) -> Choice:
        """Score rows with uniform numbers and parameters with their size; choose the highest of both."""
        import numpy as np

        from knowtune.models import masks

        num = self.num_chosen(pool)
        chosen, scores = self.draw_rows(pool, np.random.default_rng(seed))
        weights = pool.weights()
        sizes = {name: weights[name].detach().abs() for name in pool.shapes}
        protection = self.protection(pool)
        mask = self.best_entries(sizes, num, protection.free)
        layers = describe(pool.shapes, mask, sizes)
        trace = [Round(1, len(chosen), masks.num_entries(mask), mass_kept=float(layers["kept_mass"].sum()))]
        return choice_of(pool, chosen, scores, mask, trace, layers, protection)
