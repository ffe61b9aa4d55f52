"""IRD, iterative range decreasing: shrink rows and parameters in turn, keeping the higher Fisher information of both.

Dong, Xue, Zheng, He, arXiv 2403.08484. Neither code nor settings of the authors are known to us.

    F_j       = 1/|X_t| sum_{x in X_t} g_xj^2       g_x = d loss(x) / d theta
    Theta_t+1 = the p_t+1 parameters of Theta_t with the highest F_j
    s_x       = sum_{j in Theta_t+1} g_xj^2
    X_t+1     = the n_t+1 rows of X_t with the highest s_x                      t = 0 .. T-1

X_t       rows; X_0 all that a filter kept, n_T = `samples`
Theta_t   parameters; Theta_0 all in scope, p_T the budget without the classifier's head, which is always trained
T         `rounds`

[READ: the abstracts of v1 and v2; summaries by others] The FISH mask draws random rows and treats them alike. IRD
starts from sets of rows and of parameters, takes the Fisher information, keeps the top parameters, shrinks both sets in
favour of what has more information, and goes on; every pair is fine-tuned and recorded, and the search finds the best.

Ours, where these are silent: rows and parameters shrink in turn (`order`) and F is taken anew on what is left; the
schedule is geometric from (n_0, p_0) to exactly (n_T, p_T), which fixes the shrink rates; the score of a row is its
trace over the parameters kept so far (`sample_scope: all`: over all in scope); the last pair is taken, unless `search`
asks for the pair with the best score on validation rows, of equals the later and smaller one; `stratify`, `max_loss`
and `granularity`. A row's score is its trace in the last round it took part in, so that the kept rows' can be compared.

One round without shrinking of rows is the FISH mask over all rows. Rows that are mislabelled have large gradients, too:
`max_loss` bounds them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from knowtune.common.errors import Problem, UserError
from knowtune.common.statistics import share_of
from knowtune.registry import Context
from knowtune.selectors.base import Choice, Pool
from knowtune.selectors.informed import Informed
from knowtune.selectors.protection import num_free
from knowtune.selectors.trace import Round, choice_of, describe

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from numpy.typing import NDArray

    from knowtune.models.masks import Mask
    from knowtune.selectors.protection import Protection


@dataclass(frozen=True)
class Pair:
    """What a round leaves.

    Args:
        rows: X_t, as positions in order.
        mask: Theta_t; None for all in scope, before the first round where nothing is protected.
        scores: every row's latest trace, 0 before the first round  # (rows,)
        fisher: the F, or contrast, by which Theta_t was chosen, at its entries alone.
        layers: see `Choice`.
    """

    rows: NDArray[np.int64]
    mask: Mask | None
    scores: NDArray[np.float64]
    fisher: Mapping[str, torch.Tensor]
    layers: pd.DataFrame | None = None


class Ird(Informed):
    """Shrink rows and parameters in turn by their Fisher information."""

    samples: int | None = Field(default=128, ge=1, description="rows that the last round leaves; null for all")
    rounds: int = Field(
        default=4, ge=1, le=1000, description="how often both ranges shrink, each time by the same rate"
    )
    order: Literal["parameters_first", "samples_first"] = Field(
        default="parameters_first", description="which of the two shrinks first in a round"
    )
    sample_scope: Literal["selected", "all"] = Field(
        default="selected", description="rows are scored over the parameters kept so far, or over all in scope"
    )
    search: bool = Field(
        default=False,
        description="train briefly on every round's pair and take the best on validation rows, whatever its size",
    )

    @property
    def trains_trials(self) -> bool:
        """A search trains every pair."""
        return self.search

    def demands(self, context: Context) -> list[Problem]:
        """A search compares pairs on validation rows."""
        problems = super().demands(context)
        if self.search and not context.has_validation:
            allowed = "false, for `source` gives no validation rows"
            problems.append(Problem(f"{context.where}.options.search", "true", allowed))
        return problems

    def choose(self, pool: Pool, seed: int) -> Choice:
        """Run the rounds and take the last pair, or the best one."""
        import numpy as np

        from knowtune.models import masks

        num_rows, num_left = len(pool.rows), num_free(self.protect, masks.num_parameters(pool.shapes))
        sizes = zip(
            schedule(num_rows, self.num_samples(pool), self.rounds),
            schedule(num_left, self.num_chosen(pool), self.rounds),
            strict=True,
        )
        protection = self.protection(pool)
        pair = best = Pair(np.arange(num_rows), protection.free, np.zeros(num_rows), {})
        best_score = -math.inf
        trace: list[Round] = []
        for number, (rows_left, entries_left) in enumerate(sizes, start=1):
            pair, measures = self._shrink(pool, protection, pair, rows_left, entries_left)
            dev_score = self._dev_score(pool, pair, seed, number) if self.search else None
            trace.append(Round(number, rows_left, entries_left, dev_score=dev_score, **measures))
            if dev_score is None:
                best = pair
            elif dev_score >= best_score:
                best, best_score = pair, dev_score
        return choice_of(pool, best.rows, best.scores, best.mask, trace, best.layers, protection)

    def _shrink(
        self, pool: Pool, protection: Protection, pair: Pair, num_rows: int, num_entries: int
    ) -> tuple[Pair, dict[str, float]]:
        """Take one round, from (X_t, Theta_t) to sizes n_t+1 and p_t+1.

        Returns:
            (X_t+1, Theta_t+1), and measures of the round for the trace.
        """
        rows, within, scores = pair.rows, pair.mask, pair.scores.copy()
        if self.order == "samples_first":
            rows = self._best(pool, pair, within, scores, num_rows)
        fisher = self.fisher(pool, rows)
        ranked = protection.rank(fisher)
        mask = self.best_entries(ranked, num_entries, within)
        if self.order == "parameters_first":
            rows = self._best(pool, pair, mask, scores, num_rows)
        layers = describe(pool.shapes, mask, fisher)
        measures = {"mass_kept": float(layers["kept_mass"].sum())}
        if within is not None and pair.layers is not None:
            measures |= self._overlaps(pool, pair, within, rows, mask)
        at_mask = {name: ranked[name].flatten()[entries.to(ranked[name].device)] for name, entries in mask.items()}
        return Pair(rows, mask, scores, at_mask, layers), measures

    def _best(
        self,
        pool: Pool,
        pair: Pair,
        mask: Mask | None,
        scores: NDArray[np.float64],
        num_rows: int,
    ) -> NDArray[np.int64]:
        """Write the traces of a pair's rows over a mask into `scores`, and choose the rows with the highest."""
        scores[pair.rows] = self.traces(pool, pair.rows, mask if self.sample_scope == "selected" else None)
        return self.best_rows(pool, pair.rows, scores[pair.rows], num_rows)

    def _overlaps(self, pool: Pool, pair: Pair, within: Mask, rows: NDArray[np.int64], mask: Mask) -> dict[str, float]:
        """Compare a round's choice with the one of the same size by what the round before saw."""
        from knowtune.models import masks

        positions = self.best_entries(pair.fisher, masks.num_entries(mask))
        expected = {name: within[name][at] for name, at in positions.items()}
        expected_rows = self.best_rows(pool, pair.rows, pair.scores[pair.rows], len(rows))
        return {
            "parameter_overlap": masks.overlap(mask, expected),
            "row_overlap": len(set(rows.tolist()) & set(expected_rows.tolist())) / len(rows),
        }

    def _dev_score(self, pool: Pool, pair: Pair, seed: int, number: int) -> float:
        """Train on a pair and return its score on validation rows."""
        score = pool.dev_score(pair.rows.tolist(), pair.mask or {}, seed)
        if not math.isfinite(score):
            raise UserError(f"search: the pair of round {number} has no finite score ({score}) after training")
        return float(score)


def schedule(first: int, last: int, rounds: int) -> list[int]:
    """Return the sizes after each round, shrinking by one rate: ceil(first x (last / first)^(t / rounds)), then `last`.

    Args:
        first: the size before the first round.
        last: the size after the last round, exactly; at most `first`.
        rounds: how many sizes.
    """
    if first == 0:
        return [0] * rounds
    sizes = [share_of((last / first) ** (t / rounds), first) for t in range(1, rounds)]
    return [*sizes, last]
