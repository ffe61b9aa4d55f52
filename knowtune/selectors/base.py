"""What every selector can do, what it chooses among and what it returns: the family's base class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import torch

from knowtune.common.errors import Problem
from knowtune.gradients.options import Scoring
from knowtune.registry import Context, Member


@dataclass(frozen=True)
class Choice:
    """What a selector chose.

    Args:
        scores: one number per row; higher means chosen rather.
        chosen: one truth value per row.
        mask: parameter name -> flat indices that may be trained, int64, sorted; None means all of them.
        trace: one dict per round.
        layers: what the mask keeps of each parameter: columns parameter, size, kept, and where there are scores mass
            (share of their sum that lies on the parameter) and kept_mass (that of it which the mask keeps); where
            something is protected, protected (entries that could not be chosen).
        protected: how much is protected, see `knowtune.selectors.protection.Protection.summary`; None for nothing.
    """

    scores: pd.Series[float]
    chosen: pd.Series[bool]
    mask: dict[str, torch.Tensor] | None
    trace: list[dict[str, Any]]
    layers: pd.DataFrame | None = None
    protected: dict[str, float] | None = None


class Pool:
    """What a selector chooses among: rows, and the parameters of a model in some scope.

    By itself it is rows alone, for selectors that choose no parameters: no model is loaded for them. A pool with
    parameters (`knowtune.selectors.pools.ModelPool`) says what is known of both.

    Args:
        rows: the kept rows, as the data contract gives them.

    Attributes:
        shapes: parameter name -> shape, of every parameter that may be chosen (not of a classifier's head).
        num_reserved: parameters that are trained whatever is chosen: a classifier's head. They count in the budget.
    """

    rows: pd.DataFrame
    shapes: Mapping[str, tuple[int, ...]]
    num_reserved: int

    def __init__(self, rows: pd.DataFrame) -> None:
        """Take the rows."""
        self.rows, self.shapes, self.num_reserved = rows, {}, 0

    def weights(self) -> Mapping[str, torch.Tensor]:
        """Return the parameters themselves, by the names of `shapes`."""
        return {}

    def fisher(self, rows: Sequence[int], scoring: Scoring) -> Mapping[str, torch.Tensor]:
        """Return the diagonal of the empirical Fisher information: the mean over `rows` (positions) of g^2."""
        raise NotImplementedError

    def kept_fisher(self, source: str, samples: int | None) -> Mapping[str, torch.Tensor]:
        """Return the same over what a source says that the base knew: random `samples` of its sequences, or all."""
        raise NotImplementedError

    def row_scores(
        self, rows: Sequence[int], mask: Mapping[str, torch.Tensor] | None, scoring: Scoring
    ) -> torch.Tensor:
        """Return each row's own trace: the sum of its g^2 over a mask, or over all parameters  # (rows,), float64."""
        raise NotImplementedError

    def dev_score(self, rows: Sequence[int], mask: Mapping[str, torch.Tensor], seed: int) -> float:
        """Train briefly on rows and mask and return the score on validation rows; higher is better."""
        raise NotImplementedError


class Selector(Member):
    """Chooses training rows and parameters."""

    @property
    def masks(self) -> bool:
        """Whether the choice restricts the parameters, so that the method must be able to use a mask."""
        return False

    @property
    def chooses_rows(self) -> bool:
        """Whether the choice leaves rows out, so that a run can train on the chosen ones."""
        return False

    @property
    def sources(self) -> frozenset[str]:
        """Name what the choice reads of what the base knew: of known, text, self."""
        return frozenset()

    @property
    def trains_trials(self) -> bool:
        """Whether the choice trains briefly, so that the selection says how in `trial`."""
        return False

    def demands(self, context: Context) -> list[Problem]:
        """Refuse an adapter that is not chosen among, and a trial that is missing or not trained."""
        problems = []
        if context.section.get("adapter") is not None and not self.masks:
            allowed = "a strategy with a budget or `protect`; only that chooses among an adapter's parameters"
            problems.append(Problem(f"{context.where}.adapter", "an adapter", allowed))
        if self.trains_trials and context.section.get("trial") is None:
            allowed = "steps, learning_rate and batch_size, for `search` trains pairs"
            problems.append(Problem(f"{context.where}.trial", "nothing", allowed))
        if not self.trains_trials and context.section.get("trial") is not None:
            allowed = "none; only `search: true` of strategy ird trains pairs"
            problems.append(Problem(f"{context.where}.trial", "a trial", allowed))
        return problems

    @abstractmethod
    def choose(self, pool: Pool, seed: int) -> Choice:
        """Choose among the rows and the parameters of a pool."""
