"""The selector that knows nothing: rows and parameters by lot. It is there to be beaten, and often is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from knowtune.errors import UserError
from knowtune.families import Choice, Selector
from knowtune.statistics import share_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch


class Random(Selector):
    """Draw rows and parameters uniformly, seeded."""

    samples: int | None = Field(default=None, ge=1, description="rows to choose; null for all")
    budget: float | None = Field(default=None, gt=0, le=1, description="share of the base's parameters; null for all")

    @property
    def masks(self) -> bool:
        """A budget makes a mask."""
        return self.budget is not None

    @property
    def chooses_rows(self) -> bool:
        """A number of samples leaves rows out."""
        return self.samples is not None

    def choose(self, rows: pd.DataFrame, shapes: Mapping[str, tuple[int, ...]], seed: int) -> Choice:
        """Score rows with uniform numbers and choose the highest; draw exactly the budget of parameters."""
        import numpy as np
        import pandas as pd

        if self.samples is not None and self.samples > len(rows):
            raise UserError(f"samples: got {self.samples}, but only {len(rows)} rows are left; allowed: up to that")
        generator = np.random.default_rng(seed)
        scores = pd.Series(generator.random(len(rows)), index=rows.index)
        chosen = scores.rank(method="first", ascending=False) <= (self.samples or len(rows))
        mask = None
        if self.budget is not None:
            mask = _draw(shapes, self.budget, generator)
        kept = None if mask is None else sum(len(indices) for indices in mask.values())
        return Choice(scores, chosen, mask, [{"num_rows": int(chosen.sum()), "num_parameters": kept}])


def _draw(
    shapes: Mapping[str, tuple[int, ...]], budget: float, generator: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Draw ceil(budget x total) parameters uniformly and without repeats from all tensors laid end to end."""
    import numpy as np
    import torch

    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    total = int(ends[-1])
    drawn = np.sort(generator.choice(total, share_of(budget, total), replace=False, shuffle=False))
    cuts = np.searchsorted(drawn, ends)
    mask, begin, offset = {}, 0, 0
    for name, end, cut in zip(shapes, ends.tolist(), cuts.tolist(), strict=True):
        mask[name] = torch.from_numpy(drawn[begin:cut] - offset).long()
        begin, offset = cut, end
    return mask
