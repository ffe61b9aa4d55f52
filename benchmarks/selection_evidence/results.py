"""What is finished, read back: means over seeds, differences between arms by seed, costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.evidence.numbers import GRID_SEED, MIN_SEEDS, difference_by_seed
from benchmarks.evidence.store import read_latest
from knowtune.common.statistics import mean_interval

ARMS = ("lora", "random", "magnitude", "fish", "ird")
VARIANTS = ("fish-even", "random-linear")
ROWS_ALONE = "lora-ird"  # LoRA on the rows that IRD chose, with LoRA's learning rate
EVERY = (*ARMS, *VARIANTS, ROWS_ALONE)
NAMES = {
    "lora": "LoRA",
    "random": "random",
    "magnitude": "magnitude",
    "fish": "FISH",
    "ird": "IRD",
    "fish-even": "FISH, equal shares",
    "random-linear": "random, linear layers",
    ROWS_ALONE: "LoRA, IRD's rows",
}
PAIRS = (  # what is held against what, by seed
    ("fish", "random"),
    ("ird", "random"),
    ("ird", "fish"),
    ("magnitude", "random"),
    ("random", "lora"),
    ("fish", "lora"),
    ("ird", "lora"),
    ("fish-even", "random"),
    ("fish-even", "fish"),
    ("fish-even", "lora"),
    ("random-linear", "random"),
    ("random-linear", "lora"),
    (ROWS_ALONE, "lora"),
)


@dataclass(frozen=True)
class Group:
    """All arms of a task at one budget, on all rows or on the chosen ones.

    Args:
        task: its name.
        rank: of the LoRA that sets the budget.
        train_on: all or chosen.
        learned: the metric of learning, and what the pristine base has of it.
        lost: the metric of forgetting, of which the base has none.
        rates: arm -> chosen learning rate.
        records: of all trainings.
    """

    task: str
    rank: int
    train_on: str
    learned: tuple[str, float]
    lost: str
    rates: Mapping[str, float]
    records: Sequence[dict[str, Any]]

    @property
    def num_trainable(self) -> int:
        """The budget."""
        return int(self.records[0]["num_trainable"])

    @property
    def title(self) -> str:
        """Name the comparison."""
        rows = "all rows" if self.train_on == "all" else "128 rows"
        return f"{self.task}, {self.num_trainable:,} parameters, {rows}"

    @property
    def learning_rates(self) -> list[float]:
        """The grid; none where the rates are another comparison's."""
        return sorted({record["learning_rate"] for record in self.records if record["seed"] == GRID_SEED})

    @property
    def arms(self) -> list[str]:
        """The arms that are there, variants last."""
        return [arm for arm in EVERY if arm in self.rates and len(self.run(arm)) >= MIN_SEEDS]

    def run(self, arm: str) -> dict[int, dict[str, Any]]:
        """Return the trainings with the chosen rate by their seeds."""
        records = self.of(arm)
        return {r["seed"]: r for r in records if r["learning_rate"] == self.rates[arm] and r["seed"] != GRID_SEED}

    def of(self, arm: str, seed: int | None = None) -> list[dict[str, Any]]:
        """Return an arm's trainings, or those with a seed, in the order of their learning rates."""
        records = [r for r in self.records if r["arm"] == arm and seed in (None, r["seed"])]
        return sorted(records, key=lambda record: float(record["learning_rate"]))

    def values(self, arm: str, metric: str) -> list[float]:
        """Return a metric of every finished seed."""
        return [record["metrics"][metric] for _, record in sorted(self.run(arm).items())]

    def difference(self, one: str, other: str, metric: str) -> dict[str, Any] | None:
        """Return mean and interval of the differences by seed; None with too few seeds in common."""
        own, others = (self.run(arm) if arm in self.rates else {} for arm in (one, other))
        return difference_by_seed(own, others, metric)

    def at_edge(self, arm: str) -> bool:
        """Return whether the chosen rate lies at an end of the grid."""
        return self.rates[arm] in (self.learning_rates[:1] + self.learning_rates[-1:])

    @cached_property
    def whole_seeds(self) -> list[int]:
        """Seeds with which every arm has every rate; the grid's own only where there are not three others."""
        whole = [
            seed
            for seed in sorted({record["seed"] for record in self.records})
            if self.learning_rates and all(len(self.of(arm, seed)) == len(self.learning_rates) for arm in ARMS)
        ]
        others = [seed for seed in whole if seed != GRID_SEED]
        return others if len(others) > 2 else whole[-1:]

    @cached_property
    def level(self) -> float:
        """Return what every arm learned with every whole seed at some rate: nine tenths of the least best."""
        name = self.learned[0]
        return 0.9 * min(
            max(float(record["metrics"][name]) for record in self.of(arm, seed))
            for arm in ARMS
            for seed in self.whole_seeds
        )

    def lost_at_level(self, arm: str) -> list[float]:
        """Return, for every whole seed, what an arm has lost where it first learned so much; [] where it never does.

        Between two rates by a straight line; the base is the rate 0, where nothing is learned and nothing lost.
        """
        (name, base), losses = self.learned, []
        for seed in self.whole_seeds:
            points = [(base, 0.0)]
            points += [(record["metrics"][name], record["metrics"][self.lost]) for record in self.of(arm, seed)]
            after = next((i for i, (value, _) in enumerate(points) if value >= self.level), None)
            if after is None or len(points) <= len(self.learning_rates):
                return []
            (low, lost_low), (high, lost_high) = points[max(after - 1, 0)], points[after]
            share = (self.level - low) / (high - low) if high > low else 1.0
            losses.append(lost_low + (lost_high - lost_low) * share)
        return losses

    def difference_at_level(self, one: str, other: str) -> dict[str, Any] | None:
        """Return mean and interval of the differences by seed in what is lost at the common level."""
        own, others = self.lost_at_level(one), self.lost_at_level(other)
        if len(self.whole_seeds) < 3 or not own or not others:
            return None
        return mean_interval([mine - theirs for mine, theirs in zip(own, others, strict=True)])


@dataclass(frozen=True)
class TaskResults:
    """All that is finished of a task."""

    name: str
    base: dict[str, Any]
    groups: Sequence[Group]
    selections: Sequence[dict[str, Any]]

    @property
    def metrics(self) -> list[str]:
        """Metrics in the order in which they were computed: what was learned first."""
        return list(self.base["metrics"])


def read_results(work: Path, names: Sequence[str]) -> list[TaskResults]:
    """Read the tasks of which there is a comparison; pieces of other settings than the last ones' are left out."""
    results = []
    for name in names:
        base, own = read_latest(work / f"{name}.jsonl")
        if base is None:
            continue
        trainings = [record for record in own if record["what"] == "training"]
        selections = [record for record in own if record["what"] == "selection"]
        groups = list(_groups(name, base, trainings))
        if groups:
            groups.sort(key=lambda group: (group.train_on, group.rank))
            results.append(TaskResults(name, base, groups, selections))
    return results


def _groups(name: str, base: dict[str, Any], trainings: Sequence[dict[str, Any]]) -> Iterator[Group]:
    """Put trainings together by budget and rows; leave out what has no three seeds yet."""
    learned = next(iter(base["metrics"]))
    lost = next(metric for metric in ("forgotten", "drift") if metric in base["metrics"])
    for rank, train_on in dict.fromkeys((record["rank"], record["train_on"]) for record in trainings):
        rates = {arm: rate for arm in EVERY if (rate := _chosen_rate(trainings, arm, rank)) is not None}
        own = [r for r in trainings if (r["rank"], r["train_on"]) == (rank, train_on) and r["arm"] in rates]
        if train_on == "chosen":
            own = [record for record in own if record["seed"] != GRID_SEED]
        group = Group(name, rank, train_on, (learned, base["metrics"][learned]), lost, rates, own)
        if set(ARMS) <= set(group.arms):
            yield group


def _chosen_rate(trainings: Sequence[dict[str, Any]], arm: str, rank: int) -> float | None:
    """Choose by the loss on the validation rows, as the trainings did."""
    arm = "lora" if arm == ROWS_ALONE else arm
    tried = [r for r in trainings if (r["arm"], r["rank"], r["train_on"], r["seed"]) == (arm, rank, "all", GRID_SEED)]
    return min(tried, key=lambda record: record["validation"]["loss"])["learning_rate"] if tried else None
