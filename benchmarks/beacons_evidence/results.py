"""What is finished, read back: a comparison of all arms for every task, rate of wrong targets and method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.beacons_evidence.arms import PLAIN, RATES, Arm, arms
from benchmarks.evidence.comparisons import GRID_SEED, MIN_SEEDS, Comparison
from benchmarks.evidence.curves import Metrics, chosen_rate
from benchmarks.evidence.store import read_latest

LEARNED, LOST, PUSHED = "generalisation", "forgotten", "pushed_away"
PLAIN_NAME = "plain"
AT = " at "


@dataclass(frozen=True)
class Group:
    """The arms of a method on a task with so many wrong targets.

    Args:
        task: its name.
        wrong: share of wrong targets.
        method: of all arms.
        comparison: the arms by their names.
        dropped: arm -> the share of wrong rows that its filter drops; None where there are none.
    """

    task: str
    wrong: float
    method: str
    comparison: Comparison
    dropped: dict[str, float | None]

    @property
    def arms(self) -> list[str]:
        """The arms with enough seeds, in their order; plain training first."""
        names = dict.fromkeys(arm.name for arm in arms() if arm.method == self.method)
        return [name for name in names if len(self.comparison.run(name)) >= MIN_SEEDS]

    @property
    def at_other_rates(self) -> list[str]:
        """The same arms at rates that were not chosen, where enough seeds have them: "plain at 0.004"."""
        return [
            name for name in self.comparison.trainings if AT in name and len(self.comparison.run(name)) >= MIN_SEEDS
        ]

    @property
    def title(self) -> str:
        """Name task and noise."""
        return f"{self.task}, {100 * self.wrong:.0f} % wrong"


@dataclass(frozen=True)
class TaskResults:
    """All that is finished of a task.

    Args:
        name: of the task.
        base: the pristine base's piece.
        rates: method -> the chosen learning rate.
        groups: in the order of the page.
        num_trainings: that are finished.
        hours: of CPU, of all trainings.
    """

    name: str
    base: dict[str, Any]
    rates: dict[str, float]
    groups: Sequence[Group]
    num_trainings: int
    hours: float


def read_results(work: Path) -> list[TaskResults]:
    """Read the tasks of which a comparison is finished."""
    results = []
    for name in RATES:
        base, pieces = read_latest(work / f"{name}.jsonl")
        trainings = [piece for piece in pieces if piece["what"] == "training"]
        if base is None or not trainings:
            continue
        rates = _chosen_rates(trainings)
        groups = [
            group
            for wrong in sorted({record["wrong"] for record in trainings})
            for method in rates
            if len((group := _group(name, base, trainings, wrong, method, rates[method])).arms) > 1
        ]
        if groups:
            hours = sum(float(record["cpu"]) for record in trainings) / 3600
            results.append(TaskResults(name, base, rates, groups, len(trainings), hours))
    return results


def _chosen_rates(trainings: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Choose each method's rate by generalisation, in plain training without wrong targets, as the trainings did."""
    tried: dict[str, dict[float, Metrics]] = {}
    for record in trainings:
        if record["seed"] == GRID_SEED:
            tried.setdefault(record["method"], {})[record["learning_rate"]] = record["metrics"]
    return {method: chosen_rate(rates, LEARNED) for method, rates in tried.items()}


def _group(
    task: str, base: dict[str, Any], trainings: Sequence[dict[str, Any]], wrong: float, method: str, rate: float
) -> Group:
    """Put the trainings of one method and rate of wrong targets together."""
    by_arm: dict[str, dict[int, dict[float, Metrics]]] = {}
    dropped: dict[str, list[float]] = {}
    for record in trainings:
        if (record["wrong"], record["method"]) == (wrong, method):
            name = Arm(method, record["filter"], record["weighting"]).name
            by_arm.setdefault(name, {}).setdefault(record["seed"], {})[record["learning_rate"]] = record["metrics"]
            if record["num_wrong"] and record["learning_rate"] == rate:
                dropped.setdefault(name, []).append(record["wrong_dropped"] / record["num_wrong"])
    title = f"{task}, {100 * wrong:.0f} % wrong, {method}"
    rates = dict.fromkeys(by_arm, rate)
    for name, seeds in list(by_arm.items()):
        for other in sorted({tried for seed, own in seeds.items() if seed != GRID_SEED for tried in own} - {rate}):
            rates[f"{name}{AT}{other:g}"] = other
            at_other = {seed: {other: own[other]} for seed, own in seeds.items() if other in own}
            by_arm[f"{name}{AT}{other:g}"] = at_other
    comparison = Comparison(title, LEARNED, LOST, base["metrics"], by_arm, rates)
    shares = {name: sum(own) / len(own) for name, own in dropped.items()}
    return Group(task, wrong, method, comparison, {name: shares.get(name.partition(AT)[0]) for name in by_arm})


def arm_names() -> list[str]:
    """List what differs from plain training, each once."""
    return list(dict.fromkeys(arm.name for arm in arms() if (arm.filter, arm.weighting) != PLAIN))
