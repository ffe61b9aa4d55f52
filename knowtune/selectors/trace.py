"""What a selector says of its choice: the trace of its rounds and the table of parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from knowtune.selectors.base import Choice, Pool

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from numpy.typing import NDArray

    from knowtune.selectors.protection import Protection


@dataclass(frozen=True)
class Round:
    """One line of a selection's trace.

    Args:
        round: counted from 1.
        num_rows: chosen.
        num_parameters: entries of the mask, without a classifier's head; None where all may be trained.
        mass_kept: share of the sum of this round's scores, over all parameters in scope, that lies on the mask.
        parameter_overlap: share of the mask that the scores of the round before would have chosen at this size.
        row_overlap: the same of the rows.
        dev_score: of this pair of rows and mask, where pairs are compared.
    """

    round: int
    num_rows: int
    num_parameters: int | None
    mass_kept: float | None = None
    parameter_overlap: float | None = None
    row_overlap: float | None = None
    dev_score: float | None = None

    def record(self) -> dict[str, Any]:
        """Return the line as JSON-able values."""
        return asdict(self)


def choice_of(
    pool: Pool,
    chosen: NDArray[np.int64],
    scores: NDArray[np.float64],
    mask: dict[str, torch.Tensor] | None,
    trace: list[Round],
    layers: pd.DataFrame | None = None,
    protection: Protection | None = None,
) -> Choice:
    """Put a choice on the index of the pool's rows.

    Args:
        pool: what was chosen among.
        chosen: positions of the chosen rows.
        scores: of all rows  # (rows,)
        mask: see `Choice`.
        trace: the rounds.
        layers: see `Choice`; the column `protected` is added here.
        protection: what the mask had to leave alone.
    """
    import pandas as pd

    index = pool.rows.index
    taken = pd.Series(False, index=index)
    taken.iloc[chosen] = True
    protected = None if protection is None or mask is None else protection.summary(mask)
    if layers is not None and protection is not None and protected is not None:
        sizes = zip(layers["parameter"], layers["size"], strict=True)
        layers = layers.assign(protected=[protection.protected(name, size) for name, size in sizes])
    series, records = pd.Series(scores, index=index, dtype=float), [r.record() for r in trace]
    return Choice(series, taken, mask, records, layers, protected)


def describe(
    shapes: Mapping[str, tuple[int, ...]],
    mask: Mapping[str, torch.Tensor],
    scores: Mapping[str, torch.Tensor] | None = None,
) -> pd.DataFrame:
    """Make the table of what a mask keeps of each parameter, see `Choice.layers`.

    Args:
        shapes: of all parameters that could be chosen; each is a line, kept or not.
        mask: the choice.
        scores: what it was made by, none negative; without them the table has no masses.
    """
    import pandas as pd
    import torch

    nothing = torch.empty(0, dtype=torch.int64)
    table = pd.DataFrame(
        {
            "parameter": pd.Series(list(shapes), dtype="str"),
            "size": [math.prod(shape) for shape in shapes.values()],
            "kept": [len(mask.get(name, nothing)) for name in shapes],
        }
    )
    if scores is None:
        return table
    sums, kept = [], []
    for name in shapes:
        flat = scores[name].detach().flatten()
        sums.append(float(flat.sum(dtype=torch.float64)))
        kept.append(float(flat[mask.get(name, nothing).to(flat.device)].sum(dtype=torch.float64)))
    total = math.fsum(sums) or 1.0
    return table.assign(mass=[value / total for value in sums], kept_mass=[value / total for value in kept])
