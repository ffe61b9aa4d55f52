"""What selectors share that go by Fisher information: that of the parameters, and every row's own share of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from knowtune.common.errors import UserError
from knowtune.gradients.options import Scoring
from knowtune.selectors.base import Pool
from knowtune.selectors.budgets import Budgeted
from knowtune.selectors.information import usable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class Informed(Budgeted, Scoring):
    """A selector that goes by the Fisher information of rows and parameters."""

    ranks_by_fisher: ClassVar[bool] = True

    def fisher(self, pool: Pool, rows: NDArray[np.int64]) -> Mapping[str, torch.Tensor]:
        """Return the diagonal of the empirical Fisher information over rows.

        Raises:
            UserError: there are no rows, or the information is not finite, or zero everywhere.
        """
        if len(rows) == 0:
            raise UserError("no rows are left to take the Fisher information of; use a filter that keeps some")
        return usable(pool.fisher(rows.tolist(), self._scoring()), pool.shapes)

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
