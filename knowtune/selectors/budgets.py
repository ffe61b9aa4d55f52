"""What selectors share: how many parameters and rows they may choose, and by which order the best of them are taken.

A budget counts what a run will train: the chosen entries and a classifier's head, which is trained whatever is chosen.
So the FISH mask's authors count it, too (their released code [READ]: K = int(total x keep_ratio) - head; we round up).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from knowtune.common.errors import Problem, UserError
from knowtune.common.statistics import apportion, share_of
from knowtune.registry import Context
from knowtune.selectors.base import Pool
from knowtune.selectors.protection import num_free
from knowtune.selectors.scope import Scoped

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from knowtune.models.masks import Mask


class Budgeted(Scoped):
    """A selector with a budget of parameters and a number of rows."""

    needs_budget: ClassVar[bool] = True

    budget: float | None = Field(
        default=None, gt=0, le=1, description="share of the parameters in scope to train, a classifier's head included"
    )
    num_parameters: int | None = Field(
        default=None, ge=1, description="how many parameters to train, instead of `budget`; the head included"
    )
    samples: int | None = Field(default=None, ge=1, description="rows to choose; null for all")
    stratify: Literal["relation", "target"] | None = Field(
        default=None, description="choose rows in proportion to the sizes of the groups with equal values of this"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse what contradicts itself or has no effect."""
        given = (self.budget is not None) + (self.num_parameters is not None)
        if given > 1 or (self.needs_budget and not given):
            raise ValueError(f"{'exactly' if self.needs_budget else 'at most'} one of budget and num_parameters")
        if not self.masks and (self.pattern is not None or self.granularity != "global"):
            raise ValueError("pattern and granularity only with budget, num_parameters or protect")
        if self.stratify is not None and self.samples is None:
            raise ValueError("stratify only with samples")
        return self

    @property
    def masks(self) -> bool:
        """A budget makes a mask, and so does what is protected."""
        return self.budget is not None or self.num_parameters is not None or self.protect is not None

    @property
    def chooses_rows(self) -> bool:
        """A number of samples leaves rows out."""
        return self.samples is not None

    def demands(self, context: Context) -> list[Problem]:
        """Refuse a budget that cannot be met beside what is protected; a classifier's head makes room for more."""
        problems = super().demands(context)
        left = num_free(self.protect, 10**6)
        if context.task == "knowledge" and self.budget is not None and share_of(self.budget, 10**6) > left:
            allowed = f"up to {left / 10**6:g}, for `protect` leaves no more"
            problems.append(Problem(f"{context.where}.options.budget", f"{self.budget:g}", allowed))
        return problems

    def num_chosen(self, pool: Pool) -> int:
        """Return how many entries the mask must have: the budget without what is trained anyway.

        Without a budget that is all that is not protected.

        Raises:
            UserError: the budget is no larger than the classifier's head, larger than the model, or larger than what
                is not protected.
        """
        from knowtune.models import masks

        in_scope = masks.num_parameters(pool.shapes)
        if in_scope == 0:
            raise UserError(f"pattern: got {self.pattern!r}, which leaves no parameter to choose; allowed: a wider one")
        total, left = in_scope + pool.num_reserved, num_free(self.protect, in_scope)
        if self.budget is None and self.num_parameters is None:
            return left
        if self.num_parameters is not None:
            num, got = self.num_parameters, f"num_parameters: got {self.num_parameters:,}"
        else:
            num = share_of(self.budget or 1.0, total)
            got = f"budget: got {self.budget:g}, {num:,} of {total:,} parameters"
        if num > total:
            raise UserError(f"{got}, larger than the model in scope, which has {total:,}; allowed: up to that")
        if num <= pool.num_reserved:
            raise UserError(
                f"{got}, but the classifier's head, which is always trained, has {pool.num_reserved:,}; "
                "allowed: more than that"
            )
        if num - pool.num_reserved > left:
            raise UserError(
                f"{got}, but protect leaves {left:,} of the {in_scope:,} entries in scope"
                + (f", and the head has {pool.num_reserved:,}" if pool.num_reserved else "")
                + f"; allowed: up to {left + pool.num_reserved:,}, or a smaller protect.share"
            )
        return num - pool.num_reserved

    def num_samples(self, pool: Pool) -> int:
        """Return how many rows to choose.

        Raises:
            UserError: more than there are.
        """
        left = len(pool.rows)
        if self.samples is not None and self.samples > left:
            raise UserError(f"samples: got {self.samples}, but only {left} rows are left; allowed: up to that")
        return left if self.samples is None else self.samples

    def best_entries(
        self, scores: Mapping[str, torch.Tensor], num: int, within: Mapping[str, torch.Tensor] | None = None
    ) -> Mask:
        """Choose the entries with the highest scores, exactly `num`, by the granularity."""
        from knowtune.models import masks

        choose = masks.top_entries if self.granularity == "global" else masks.top_entries_per_parameter
        return choose(scores, num, within)

    def best_rows(
        self, pool: Pool, rows: NDArray[np.int64], scores: NDArray[np.float64], num: int
    ) -> NDArray[np.int64]:
        """Choose the rows with the highest scores, exactly `num`; of equals the first. Return positions, in order.

        Args:
            pool: whose rows they are.
            rows: positions, in order  # (rows,)
            scores: theirs  # (rows,)
            num: how many.
        """
        import numpy as np

        order = np.argsort(-scores, kind="stable")
        if self.stratify is None:
            return np.sort(rows[order[:num]])
        groups = pool.rows[self.stratify].to_numpy()[rows]
        shares = apportion(num, dict(sorted(Counter(groups).items())))  # sorted: ties go by name, not by order of rows
        best = [order[groups[order] == group][:share] for group, share in shares.items()]
        return np.sort(rows[np.concatenate(best)])

    def draw_rows(self, pool: Pool, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Choose random rows: those with the highest of one uniform number a row. Return positions and the numbers."""
        import numpy as np

        num = self.num_samples(pool)
        scores = generator.random(len(pool.rows))
        return self.best_rows(pool, np.arange(len(pool.rows)), scores, num), scores
