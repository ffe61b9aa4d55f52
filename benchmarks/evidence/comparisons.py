"""How arms are held against each other; every evidence page judges by these rules.

An arm is trained at several *rates*: learning rates, or another knob that buys learning with forgetting, such as the
alpha of an interpolation. A page declares its arms and gives their trainings to a `Comparison`, and asks it for
differences:

1. An arm's rate is chosen by the measure of learning that the page reports, with a seed that no result has. A page may
   let a second such seed decide where the first learns the same at rates that are not neighbours (`second`).
2. What is learned is compared at the chosen rates, seed by seed.
3. What is forgotten is compared at equal learning only. Each seed's trainings are a curve, forgotten as a function of
   learned. Two arms are compared at levels of learning that both reach, never below what either learns at its lowest
   rate: the untrained base is no point of a curve. An arm with one rate has no curve: at another it may forget less.
4. A task that no arm learns is in no count.

`benchmarks.evidence.claims` counts differences, `benchmarks.evidence.tables` writes them. A page's own part is its
arms, how they are trained (a `Bench`), and its words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.evidence.curves import Metrics, Rates, chosen_rate, common_span, decided_rate, lost_at, make_curve
from benchmarks.evidence.differences import Difference, Lack
from knowtune.common.statistics import mean_interval

GRID_SEED = 100  # of the trainings that rates are chosen by; no result has it
SECOND_SEED = 101  # of those that decide where the first learns the same at several rates; no result has it either
MIN_SEEDS = 3  # of an interval
MIN_RATES = 2  # of a curve
NUM_LEVELS = 5  # at which two curves are compared, evenly over what both reach


@dataclass(frozen=True)
class Comparison:
    """Arms on one task at one budget, on the same rows.

    Args:
        name: as the page calls it.
        learned: the metric of learning.
        lost: the metric of forgetting.
        base: what the pristine base scores.
        trainings: arm -> seed -> rate -> what the training scored; the rates are tried with GRID_SEED.
        chosen: arm -> rate, where it is not chosen here; else by `chosen_rate`.
        second: choose by `decided_rate`, so that a rate can be open.
    """

    name: str
    learned: str
    lost: str
    base: Metrics
    trainings: Mapping[str, Mapping[int, Rates]]
    chosen: Mapping[str, float] | None = None
    second: bool = False

    def rate(self, arm: str) -> float | None:
        """Return an arm's chosen rate; None where none was tried, or it is open."""
        if self.chosen is not None:
            return self.chosen.get(arm)
        tried = self.trainings.get(arm, {}).get(GRID_SEED, {})
        if not tried:
            return None
        if self.second:
            return decided_rate(tried, self.trainings[arm].get(SECOND_SEED, {}), self.learned)
        return chosen_rate(tried, self.learned)

    def is_open(self, arm: str) -> bool:
        """Return whether an arm's rates were tried, and do not decide which it is."""
        return self.second and bool(self.trainings.get(arm, {}).get(GRID_SEED)) and self.rate(arm) is None

    def seeds(self, arm: str) -> dict[int, Rates]:
        """Return the trainings of an arm's seeds, less those that rates are chosen by."""
        choosing = (GRID_SEED, SECOND_SEED)
        return {seed: rates for seed, rates in sorted(self.trainings.get(arm, {}).items()) if seed not in choosing}

    def run(self, arm: str) -> dict[int, Metrics]:
        """Return what an arm's seeds scored at its chosen rate."""
        rate = self.rate(arm)
        if rate is None:
            return {}
        return {seed: rates[rate] for seed, rates in self.seeds(arm).items() if rate in rates}

    def difference(self, one: str, other: str, metric: str) -> Difference:
        """Hold two arms against each other at their chosen rates, seed by seed."""
        own, others = self.run(one), self.run(other)
        seeds = sorted(set(own) & set(others))
        if len(seeds) < MIN_SEEDS:
            return self._lacking_runs(metric, one, other)
        return _difference(metric, {seed: own[seed][metric] - others[seed][metric] for seed in seeds})

    def at_equal_learning(self, one: str, other: str, lost: str | None = None) -> Difference:
        """Hold two arms against each other where they have learned the same.

        Of every seed, the difference is the mean over `NUM_LEVELS` levels, evenly from the lowest to the highest that
        both of its curves reach.

        Args:
            one: an arm.
            other: the arm that it is held against.
            lost: the metric of forgetting; None for the comparison's.
        """
        lost = lost or self.lost
        own, others = self.seeds(one), self.seeds(other)
        common = sorted(set(own) & set(others))
        if len(common) < MIN_SEEDS or self.is_open(one) or self.is_open(other):
            return self._lacking_runs(lost, one, other)
        common = [seed for seed in common if min(len(own[seed]), len(others[seed])) >= MIN_RATES]
        if len(common) < MIN_SEEDS:
            return Difference(lost, lacks="two rates of both")
        differences, spans = {}, []
        for seed in common:
            curves = [make_curve(rates[seed], self.learned, lost) for rates in (own, others)]
            span = common_span(*curves)
            if span is None:
                continue
            low, high = span
            levels = [min(high, low + (high - low) * step / (NUM_LEVELS - 1)) for step in range(NUM_LEVELS)]
            gaps = [lost_at(curves[0], level) - lost_at(curves[1], level) for level in levels]
            differences[seed] = sum(gaps) / NUM_LEVELS
            spans.append(span)
        if len(differences) < MIN_SEEDS:
            return Difference(lost, lacks="rates at which both learn the same", why=Lack.LEVEL)
        count = len(spans)
        return _difference(lost, differences, (sum(low for low, _ in spans) / count, sum(h for _, h in spans) / count))

    def is_learned(self) -> bool:
        """Return whether any arm learns: at some rate its seeds' interval lies on the better side of the base."""
        for arm in self.trainings:
            by_rate: dict[float, list[float]] = {}
            for rates in self.seeds(arm).values():
                for rate, metrics in rates.items():
                    by_rate.setdefault(rate, []).append(metrics[self.learned] - self.base[self.learned])
            for gains in by_rate.values():
                if len(gains) >= MIN_SEEDS and _difference(self.learned, dict(enumerate(gains))).verdict > 0:
                    return True
        return False

    def _lacking_runs(self, metric: str, one: str, other: str) -> Difference:
        """Name the arms whose rate is open, or else those of which too few seeds are trained."""
        undecided = [arm for arm in (one, other) if self.is_open(arm)]
        if undecided:
            return Difference(metric, lacks=f"a rate of {' and of '.join(undecided)}", why=Lack.RATE)
        short = [arm for arm in (one, other) if len(self.run(arm)) < MIN_SEEDS]
        return Difference(metric, lacks=f"seeds of {' and of '.join(short)}" if short else "seeds in common")


def sort_trainings(
    records: Iterable[Mapping[str, Any]], arm: Callable[[Mapping[str, Any]], str], rate: str = "learning_rate"
) -> dict[str, dict[int, dict[float, Metrics]]]:
    """Sort finished pieces by arm, seed and rate, as a `Comparison` takes them.

    Args:
        records: trainings with a seed, the rate and their metrics.
        arm: names a record's arm.
        rate: the key of the rate.
    """
    arms: dict[str, dict[int, dict[float, Metrics]]] = {}
    for record in records:
        arms.setdefault(arm(record), {}).setdefault(record["seed"], {})[record[rate]] = record["metrics"]
    return arms


def _difference(metric: str, by_seed: Mapping[int, float], levels: tuple[float, float] | None = None) -> Difference:
    """Take mean and interval of differences by seed."""
    interval: Mapping[str, Any] = mean_interval(list(by_seed.values()))
    return Difference(metric, tuple(by_seed), interval["mean"], interval["half_width"], levels=levels)
