"""Interpolation between base and tuned model in weight space (WiSE-FT; Wortsman et al., arXiv 2109.01903).

    theta(alpha) = theta0 + alpha (theta - theta0)

    theta0  weights of the base; theta those of the tuned model, of several their weighted average
    alpha   0 is the base and 1 the tuned model, both bit for bit; linear in between

Of a list of alphas one is chosen, for each seed by itself: the one with the largest learning among those that forget
at most `max_forgotten`, of equals the smaller one; where none forgets so little, the one that forgets least. Learning
is the share of validation rows that are right, as `generalisation` counts it. Forgetting is the share, of the rows that
may be replayed and that the base has right, that are wrong, as `forgotten` counts it. No metric measures either.

The rule is ours: the paper fixes alpha = 0.5, or chooses it by accuracy on held-out data. A classifier's head is kept
whole, for the base has none to go back to; the paper starts from a zero-shot head.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from knowtune.common.errors import Problem
from knowtune.merging.mixtures.base import Choice, Mixture, Position
from knowtune.registry import Context

Alpha = Annotated[float, Field(ge=0, le=1)]


class Interpolate(Mixture):
    """Go a part of the way from the base to the tuned model."""

    alpha: Alpha | Annotated[list[Alpha], Field(min_length=2)] = Field(
        default=0.5, description="how far to go; a list: the best is chosen on rows that no metric measures"
    )
    max_forgotten: float = Field(
        default=0.02, ge=0, le=1, description="share of the known rows that a chosen alpha may forget"
    )

    fewest_runs: ClassVar[int] = 1

    @model_validator(mode="after")
    def _has_a_choice(self) -> Self:
        """Refuse a list that repeats itself, and a bound where there is nothing to choose."""
        if isinstance(self.alpha, list) and len(set(self.alpha)) < len(self.alpha):
            raise ValueError("each alpha once")
        if not isinstance(self.alpha, list) and "max_forgotten" in self.model_fields_set:
            raise ValueError("max_forgotten only with a list of alphas, of which it bounds the choice")
        return self

    @property
    def choice(self) -> Choice | None:
        """Give a candidate for each alpha of a list."""
        if not isinstance(self.alpha, list):
            return None
        return Choice({float(alpha): Interpolate(alpha=alpha) for alpha in sorted(self.alpha)}, self.max_forgotten)

    def kept_share(self, position: Position) -> float:
        """Return alpha, and 1 in a classifier's head."""
        assert not isinstance(self.alpha, list), "one is chosen before anything is mixed"
        return 1.0 if position.in_head else self.alpha

    def demands(self, context: Context) -> list[Problem]:
        """Demand the rows on which one of several alphas is chosen."""
        if not isinstance(self.alpha, list):
            return []
        where, got = f"{context.where}.options.alpha", "a list, of which one alpha is chosen on rows"
        problems = []
        if context.task not in (None, "knowledge"):
            why = f"one number, for task.kind is {context.task!r}: its base has nothing right that it could forget"
            return [Problem(where, got, why)]
        if not context.has_validation:
            problems.append(Problem(where, got, "one number, for `source` gives no validation rows"))
        if not context.has_replay:
            why = "one number, for there are no rows that may be replayed: prepare.replay.known, or source.files.replay"
            problems.append(Problem(where, got, why))
        return problems
