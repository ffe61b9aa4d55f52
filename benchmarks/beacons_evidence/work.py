"""The list of work: damage, filter, weight, train, judge; each finished piece is a line, so that a killed run goes on.

Damage is planted with the seed of the training, so that its lot is part of the spread over seeds. A method's learning
rate is chosen on validation rows, on undamaged rows without filter and weights, with a seed that no result has.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """What tells one training from another within a task."""

    method: str
    filter: str
    weighting: str
    wrong: float
    seed: int
    learning_rate: float
