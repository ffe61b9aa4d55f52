"""Pools whose gradients are written down: what a selector must find can be worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from knowtune.gradients.options import Scoring
from knowtune.selectors.base import Pool
from tests.unit.helpers import fact_rows

SHAPES = {"a": (3, 5), "none": (0, 4), "b": (7,), "c": (10, 10)}  # 122 parameters


@dataclass
class Table(Pool):
    """A pool of known gradients.

    Args:
        rows: as the data contract gives them.
        gradients: of each row  # (rows, parameters)
        shapes: what the parameters, laid end to end, are.
        num_reserved: of a head.
        theta: the parameters; by default the first row's gradient.
        kept: source -> gradients of what the base knew  # (sequences, parameters)
        judge: gives dev scores from rows and mask.
        calls: of selectors, in order.
    """

    rows: pd.DataFrame
    gradients: np.ndarray[Any, Any]
    shapes: Mapping[str, tuple[int, ...]]
    num_reserved: int = 0
    theta: np.ndarray[Any, Any] | None = None
    kept: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    judge: Callable[[Sequence[int], Mapping[str, torch.Tensor]], float] = lambda rows, mask: float(len(rows))
    calls: list[tuple[str, Any]] = field(default_factory=list)

    def split(self, flat: np.ndarray[Any, Any]) -> dict[str, torch.Tensor]:
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = torch.from_numpy(np.asarray(flat)).split(sizes)
        return {name: part.reshape(self.shapes[name]) for name, part in zip(self.shapes, parts, strict=True)}

    def weights(self) -> Mapping[str, torch.Tensor]:
        return self.split(self.gradients[0] if self.theta is None else self.theta)

    def fisher(self, rows: Sequence[int], scoring: Scoring) -> Mapping[str, torch.Tensor]:
        self.calls.append(("fisher", (list(rows), scoring)))
        return self.split((self.gradients[list(rows)] ** 2).mean(axis=0))

    def kept_fisher(self, source: str, samples: int | None) -> Mapping[str, torch.Tensor]:
        self.calls.append(("kept_fisher", (source, samples)))
        return self.split((self.kept[source][:samples] ** 2).mean(axis=0))

    def row_scores(
        self, rows: Sequence[int], mask: Mapping[str, torch.Tensor] | None, scoring: Scoring
    ) -> torch.Tensor:
        self.calls.append(("row_scores", (list(rows), mask, scoring)))
        kept = self.gradients[list(rows)] if mask is None else self.gradients[np.ix_(list(rows), flat(self, mask))]
        return torch.from_numpy((kept**2).sum(axis=1))

    def dev_score(self, rows: Sequence[int], mask: Mapping[str, torch.Tensor], seed: int) -> float:
        self.calls.append(("dev_score", (list(rows), mask, seed)))
        return self.judge(rows, mask)


def flat(pool: Pool, mask: Mapping[str, torch.Tensor]) -> list[int]:
    """Give a mask's entries as positions among all parameters laid end to end."""
    offset, found = 0, []
    for name, shape in pool.shapes.items():
        found += [offset + i for i in mask[name].tolist()]
        offset += math.prod(shape)
    return found


def logistic(num: int = 24, seed: int = 0, shapes: Mapping[str, tuple[int, ...]] = SHAPES, **options: Any) -> Table:
    """Make the pool of a logistic regression: the gradient of a row is (sigmoid(theta x) - y) x."""
    generator = np.random.default_rng(seed)
    size = sum(math.prod(shape) for shape in shapes.values())
    x = generator.normal(size=(num, size)) * generator.exponential(size=size)  # some parameters matter more
    theta = generator.normal(size=size) / math.sqrt(size)
    y = generator.integers(0, 2, size=num)
    residuals = 1 / (1 + np.exp(-x @ theta)) - y  # (rows,)
    rows = fact_rows().head(num).set_axis(range(50, 50 + num))
    return Table(rows, residuals[:, None] * x, shapes, theta=theta, **options)


def tied(num: int = 24, seed: int = 0, **options: Any) -> Table:
    """Make a pool whose gradients are 0, 1 or 2: most scores have equals, and sums are exact."""
    generator = np.random.default_rng(seed)
    gradients = generator.integers(0, 3, size=(num, 122)).astype(float)
    return Table(fact_rows().head(num).set_axis(range(50, 50 + num)), gradients, SHAPES, **options)


def taken(pool: Table, rows: Sequence[int]) -> Table:
    """Give the pool of some rows, in the order given, repeats allowed."""
    table = pool.rows.iloc[list(rows)].reset_index(drop=True)
    return Table(table, pool.gradients[list(rows)], pool.shapes, pool.num_reserved, pool.theta, judge=pool.judge)


def top(scores: Sequence[float], num: int, among: Sequence[int] | None = None) -> list[int]:
    """Sort everything: the positions of the `num` highest scores, of equals the first; in order."""
    positions = range(len(scores)) if among is None else among
    return sorted(sorted(positions, key=lambda i: (-scores[i], i))[:num])
