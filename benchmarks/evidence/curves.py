"""The trainings of one arm and seed at several rates, as a curve: what is lost as a function of what is learned."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.evidence.numbers import metric_of

Metrics = Mapping[str, float]
Rates = Mapping[float, Metrics]  # rate -> what a training at it scored
Curve = list[tuple[float, float]]  # (learned, lost)


def chosen_rate(tried: Rates, metric: str) -> float:
    """Choose a rate by the measure that is reported; of equals the lowest.

    Args:
        tried: what the trainings with GRID_SEED scored.
        metric: the measure.
    """
    sign = 1 if metric_of(metric).higher_is_better else -1
    return max(sorted(tried), key=lambda rate: sign * tried[rate][metric])


def make_curve(rates: Rates, learned: str, lost: str) -> Curve:
    """List (learned, lost) from the lowest rate to the one that learns most: beyond it a higher rate only loses."""
    points = [(float(rates[rate][learned]), float(rates[rate][lost])) for rate in sorted(rates)]
    best = max(range(len(points)), key=lambda index: points[index][0])
    return points[: best + 1]


def common_span(one: Curve, other: Curve) -> tuple[float, float] | None:
    """Return the lowest and the highest level of learning that both curves reach; None where there is none."""
    low, high = max(one[0][0], other[0][0]), min(one[-1][0], other[-1][0])
    return (low, high) if low <= high else None


def lost_at(curve: Curve, level: float) -> float:
    """Return what is lost where a curve first reaches a level, between two rates by a straight line."""
    after = next(index for index, (value, _) in enumerate(curve) if value >= level)
    if after == 0:
        return curve[0][1]
    (low, lost_low), (high, lost_high) = curve[after - 1], curve[after]
    return lost_low + (lost_high - lost_low) * (level - low) / (high - low)
