"""What selectors share: how many parameters and rows they may choose, and by which order the best of them are taken.

A budget counts what a run will train: the chosen entries and a classifier's head, which is trained whatever is chosen.
So the FISH mask's authors count it, too (their released code [READ]: K = int(total x keep_ratio) - head; we round up).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from knowtune.common.errors import UserError
from knowtune.common.statistics import share_of
from knowtune.gradients.options import Scoring
from knowtune.selectors.base import Pool, Selector

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class Budgeted(Selector):
    """A selector with a budget of parameters and a number of rows."""

    needs_budget: ClassVar[bool] = True

    budget: float | None = Field(
        default=None, gt=0, le=1, description="share of the parameters in scope to train, a classifier's head included"
    )
    num_parameters: int | None = Field(
        default=None, ge=1, description="how many parameters to train, instead of `budget`; the head included"
    )
    pattern: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="globs on parameter names that put them in scope; null for all"
    )
    granularity: Literal["global", "parameter"] = Field(
        default="global", description="the best entries of all parameters together, or equal shares of every one"
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
        if not given and (self.pattern is not None or self.granularity != "global"):
            raise ValueError("pattern and granularity only with budget or num_parameters")
        if self.stratify is not None and self.samples is None:
            raise ValueError("stratify only with samples")
        return self

    @property
    def masks(self) -> bool:
        """A budget makes a mask."""
        return self.budget is not None or self.num_parameters is not None

    @property
    def chooses_rows(self) -> bool:
        """A number of samples leaves rows out."""
        return self.samples is not None

    def num_chosen(self, pool: Pool) -> int:
        """Return how many entries the mask must have: the budget without what is trained anyway.

        Raises:
            UserError: the budget is no larger than the classifier's head, or larger than the model.
        """
        from knowtune.models import masks

        in_scope = masks.num_parameters(pool.shapes)
        if in_scope == 0:
            raise UserError(f"pattern: got {self.pattern!r}, which leaves no parameter to choose; allowed: a wider one")
        total = in_scope + pool.num_reserved
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
    ) -> dict[str, torch.Tensor]:
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

        from knowtune.models.masks import apportion

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


class Informed(Budgeted, Scoring):
    """A selector that goes by the Fisher information of rows and parameters."""

    def fisher(self, pool: Pool, rows: NDArray[np.int64]) -> Mapping[str, torch.Tensor]:
        """Return the diagonal of the empirical Fisher information over rows.

        Raises:
            UserError: there are no rows, or the information is not finite, or zero everywhere.
        """
        if len(rows) == 0:
            raise UserError("no rows are left to take the Fisher information of; use a filter that keeps some")
        unordered = pool.fisher(rows.tolist(), self._scoring())
        fisher = {name: unordered[name] for name in pool.shapes}  # ties go by this order
        for name, values in fisher.items():
            if not bool(values.isfinite().all()):
                raise UserError(
                    f"the Fisher information of {name!r} is not finite: the loss of a row, or its squared gradient, "
                    "is too large for the number format; use compute.dtype float32, or set max_loss"
                )
        if not any(bool(values.any()) for values in fisher.values()):
            raise UserError(
                "the Fisher information is zero for every parameter in scope: no row's loss depends on them; "
                "use a wider pattern, or for a fresh adapter more warmup_steps"
            )
        return fisher

    def traces(
        self, pool: Pool, rows: NDArray[np.int64], mask: Mapping[str, torch.Tensor] | None
    ) -> NDArray[np.float64]:
        """Return each row's own trace of the Fisher information over a mask, or over all parameters  # (rows,).

        Raises:
            UserError: one is not finite.
        """
        import numpy as np

        scores = np.asarray(pool.row_scores(rows.tolist(), mask, self._scoring()).cpu().numpy(), dtype=np.float64)
        broken = rows[~np.isfinite(scores)]
        if len(broken):
            raise UserError(
                f"the Fisher information of {len(broken)} rows is not finite, "
                f"e.g. of {pool.rows['id'].iloc[broken[0]]!r}; use compute.dtype float32, or set max_loss"
            )
        return scores

    def _scoring(self) -> Scoring:
        """Return the options of scoring alone, so that pools can tell equal ones by comparing them."""
        return Scoring(**{name: getattr(self, name) for name in Scoring.model_fields})
