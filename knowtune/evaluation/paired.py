"""Compare two models example by example: which flipped, whether by chance, and how large the difference is.

    d        = mean over examples and seeds of B - mean over examples and seeds of A     (of texts weighted by tokens)
    interval: 95 % by bootstrap, both models on the same resampled facts                 (percentiles of d)
    p        = McNemar's test, exact: P(as uneven a split of n flipped facts, or more | each way with chance 1/2)

*Facts, not examples, are drawn*: examples of one fact (its wordings) flip together, so that they are no independent
evidence. *Seeds are drawn too*, each model's own, independent of the facts: what varies is crossed, not nested (Owen,
"The pigeonhole bootstrap", Annals of Applied Statistics 2007), so the interval covers the choice of facts and of seeds.
Of one seed it covers the facts alone, of a few seeds it is somewhat too narrow.

McNemar's test (Psychometrika 1947) wants one verdict a fact. An example counts as right where more than half of a
model's seeds have it right (where as many have it right as wrong, it has no verdict and is left out); a fact has
flipped to wrong where more of its examples were lost than gained, and to right where more were gained. With one example
a fact and one seed this is McNemar's test as it is known. It says nothing of other seeds; the interval does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from knowtune.common.errors import UserError

DRAWS, CHUNK = 10_000, 500  # of the bootstrap, and how many of them are in memory at a time
SEED = 0
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Results:
    """What a model has of each example, by seed.

    Args:
        name: of the model.
        table: id, fact, seed, value (1 or 0 where examples are right or wrong, else nats per token) and weight.
    """

    name: str
    table: pd.DataFrame

    @property
    def seeds(self) -> list[int]:
        """The model's seeds."""
        return sorted(self.table["seed"].unique().tolist())

    def values(self) -> pd.DataFrame:
        """Give the values by example and seed."""
        return self.table.pivot(index="id", columns="seed", values="value")


@dataclass(frozen=True)
class Comparison:
    """Two models on the same examples.

    Args:
        num_examples: how many.
        num_facts: of how many facts.
        a: the first model's level.
        b: the second's.
        low: lower end of the interval of b - a.
        high: its upper end.
        lost: facts that flipped from right to wrong; None where examples are neither.
        gained: the reverse.
        p: of McNemar's test.
        flips: id, fact, way ("lost" or "gained"), and how many of each model's seeds are right.
    """

    num_examples: int
    num_facts: int
    a: float
    b: float
    low: float
    high: float
    lost: int | None
    gained: int | None
    p: float | None
    flips: pd.DataFrame

    @property
    def difference(self) -> float:
        """How much higher the second model's level is."""
        return self.b - self.a


def compare(part: str, a: Results, b: Results, *, binary: bool) -> Comparison:
    """Compare two models on one part of the evaluation.

    Args:
        part: its name, for messages.
        a: the first model.
        b: the second.
        binary: whether examples are right or wrong.

    Raises:
        UserError: they were measured on other examples.
    """
    one, other = a.values(), b.values()
    _require_same(part, a.name, one.index, b.name, other.index)
    about = a.table.drop_duplicates("id").set_index("id").loc[one.index]
    other = other.loc[one.index]
    weights = about["weight"].to_numpy(dtype=float)
    level_a, level_b = (float((v.mean(axis=1) * weights).sum() / weights.sum()) for v in (one, other))
    codes, facts = pd.factorize(about["fact"])
    low, high = _interval(codes, weights, one.to_numpy(dtype=float), other.to_numpy(dtype=float))
    flips = _flips(about, one, other) if binary else pd.DataFrame({"id": [], "way": []})
    lost, gained, p = _mcnemar(flips) if binary else (None, None, None)
    return Comparison(len(one), len(facts), level_a, level_b, low, high, lost, gained, p, flips)


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Correct p values for being several: Holm's method (Scandinavian Journal of Statistics 1979)."""
    corrected, least = {}, 0.0
    for rank, name in enumerate(sorted(values, key=lambda name: values[name])):
        least = max(least, min(1.0, (len(values) - rank) * values[name]))
        corrected[name] = least
    return {name: corrected[name] for name in values}


def _require_same(part: str, a: str, one: pd.Index[Any], b: str, other: pd.Index[Any]) -> None:
    """Refuse results of other examples."""
    alone = [(a, one.difference(other)), (b, other.difference(one))]
    if any(len(ids) for _, ids in alone):
        said = "; ".join(f"{len(ids)} of {name} alone, e.g. {ids[0]!r}" for name, ids in alone if len(ids))
        raise UserError(f"{part}: {a} and {b} were measured on other examples ({said}); `make run` measures them again")


def _interval(
    codes: np.ndarray[Any, Any], weights: np.ndarray[Any, Any], *values: np.ndarray[Any, Any]
) -> tuple[float, float]:
    """Return the bootstrap's interval of the second model's level minus the first's.

    Args:
        codes: which fact each example is of  # (examples,)
        weights: of examples  # (examples,)
        values: of each model  # (examples, seeds)
    """
    random, num = np.random.default_rng(SEED), int(codes.max()) + 1
    mass = np.bincount(codes, weights, num)
    sums = [np.stack([np.bincount(codes, weights * seed, num) for seed in v.T], axis=1) for v in values]  # fact, seed
    differences = []
    for start in range(0, DRAWS, CHUNK):
        size = min(CHUNK, DRAWS - start)
        facts = random.multinomial(num, np.full(num, 1 / num), size).astype(float)  # how often each is drawn
        levels = []
        for of_model in sums:
            seeds = of_model.shape[1]
            share = random.multinomial(seeds, np.full(seeds, 1 / seeds), size) / seeds
            levels.append((facts @ of_model * share).sum(axis=1) / (facts @ mass))
        differences.append(levels[1] - levels[0])
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(np.concatenate(differences), [tail, 100 - tail])
    return float(low), float(high)


def _flips(about: pd.DataFrame, one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """List the examples whose verdict differs; the clearest first."""
    shares = pd.DataFrame({"fact": about["fact"], "a": one.mean(axis=1), "b": other.mean(axis=1)})
    flipped = shares[((shares["a"] > 0.5) & (shares["b"] < 0.5)) | ((shares["a"] < 0.5) & (shares["b"] > 0.5))]
    counts = {"a_right": one.sum(axis=1), "b_right": other.sum(axis=1)}
    flipped = flipped.assign(
        way=np.where(flipped["b"] < flipped["a"], "lost", "gained"),
        **{name: count.loc[flipped.index].astype(int) for name, count in counts.items()},
        clear=(flipped["a"] - flipped["b"]).abs(),
    )
    ordered = flipped.reset_index().sort_values(["clear", "id"], ascending=[False, True], ignore_index=True)
    return ordered[["id", "fact", "way", "a_right", "b_right"]]


def _mcnemar(flips: pd.DataFrame) -> tuple[int, int, float]:
    """Count the facts lost and gained, and return the exact p."""
    from scipy.stats import binomtest

    net = flips["way"].map({"gained": 1, "lost": -1}).groupby(flips["fact"]).sum()
    lost, gained = int((net < 0).sum()), int((net > 0).sum())
    return lost, gained, float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def as_results(name: str, table: pd.DataFrame, *, binary: bool) -> Results:
    """Make results of what an evaluation wrote.

    Args:
        name: of the model.
        table: id, correct or loss; fact, seed and num_tokens where there are such.
        binary: whether examples are right or wrong.
    """
    value = table["correct"].astype(bool).astype(float) if binary else table["loss"].astype(float)
    weight = 1.0 if binary or "num_tokens" not in table else table["num_tokens"].astype(float)
    columns: dict[str, Any] = {"id": table["id"], "value": value, "weight": weight}
    columns["fact"] = table["fact"] if "fact" in table else table["id"]
    columns["seed"] = table.get("seed", 0)
    return Results(name, pd.DataFrame(columns))
