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
    return best_rates(tried, metric)[0]


def best_rates(tried: Rates, metric: str) -> list[float]:
    """List the rates that learn most, in ascending order: several where they learn the same."""
    best = (max if metric_of(metric).higher_is_better else min)(scores[metric] for scores in tried.values())
    return [rate for rate in sorted(tried) if tried[rate][metric] == best]


def open_rates(tried: Rates, metric: str) -> list[float]:
    """List the best rates if some of them are not neighbours, so that the lowest is an arbitrary choice; else none."""
    best = best_rates(tried, metric)
    return [] if _are_neighbours(best, tried) else best


def decided_rate(tried: Rates, again: Rates, metric: str) -> float | None:
    """Choose a rate; where it is open, by what a second seed learns at the rates that are equal for the first.

    Args:
        tried: what the trainings with GRID_SEED scored.
        again: those with SECOND_SEED.
        metric: the measure.

    Returns:
        Of equal neighbours the lowest; None where the second seed is not trained, or leaves it open as well.
    """
    equal = open_rates(tried, metric)
    if not equal:
        return chosen_rate(tried, metric)
    if not set(equal) <= set(again):
        return None
    best = best_rates({rate: again[rate] for rate in equal}, metric)
    return best[0] if _are_neighbours(best, tried) else None


def _are_neighbours(rates: list[float], tried: Rates) -> bool:
    """Return whether no rate that was tried lies between any two; of one rate this holds."""
    order = sorted(tried)
    return order.index(rates[-1]) - order.index(rates[0]) <= 1


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
