"""What is finished, read back: a comparison of all arms for every task, budget and set of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from benchmarks.evidence.comparisons import GRID_SEED, MIN_SEEDS, Comparison, sort_trainings
from benchmarks.evidence.store import read_latest
from benchmarks.selection_evidence.arms import EVERY, LIKE_LORA

LOST = ("forgotten", "text_drift", "drift")  # metrics of forgetting; the first that a task has is the one judged


@dataclass(frozen=True)
class Group:
    """All arms of a task at one budget, on all rows or on the chosen ones.

    Args:
        rank: of the LoRA that sets the budget.
        train_on: all or chosen.
        comparison: the arms.
        records: of all trainings.
        learning_rates: the grid; none where the rates are those chosen for all rows.
    """

    rank: int
    train_on: str
    comparison: Comparison
    records: Sequence[dict[str, Any]]
    learning_rates: Sequence[float]

    @property
    def num_trainable(self) -> int:
        """The budget."""
        return int(self.records[0]["num_trainable"])

    @property
    def arms(self) -> list[str]:
        """The arms of which enough seeds are trained at the chosen rate, variants last."""
        return [arm for arm in EVERY if len(self.comparison.run(arm)) >= MIN_SEEDS]

    def at_edge(self, arm: str) -> bool:
        """Return whether the chosen rate lies at an end of the grid."""
        return self.comparison.rate(arm) in (*self.learning_rates[:1], *self.learning_rates[-1:])

    def seconds(self, arm: str) -> float:
        """Return the CPU time of an arm's fastest training: others shared the machine, or ran on a slower one."""
        return min(float(record["cpu"]) for record in self.records if record["arm"] == arm)


@dataclass(frozen=True)
class TaskResults:
    """All that is finished of a task."""

    name: str
    base: dict[str, Any]
    groups: Sequence[Group]
    selections: Sequence[dict[str, Any]]
    overlaps: dict[str, float]

    @property
    def metrics(self) -> list[str]:
        """Metrics in the order in which they were computed: what was learned first."""
        return list(self.base["metrics"])

    @property
    def learned_metrics(self) -> list[str]:
        """Those of learning."""
        return [name for name in self.metrics if name not in LOST]

    @property
    def lost_metrics(self) -> list[str]:
        """Those of forgetting."""
        return [name for name in self.metrics if name in LOST]

    @property
    def hours(self) -> float:
        """CPU hours of all trainings and selections."""
        trainings = [record for group in self.groups for record in group.records]
        return sum(float(record["cpu"]) for record in [*trainings, *self.selections]) / 3600


def read_results(work: Path, names: Sequence[str]) -> list[TaskResults]:
    """Read the tasks of which there is a comparison; pieces of other settings than the last ones' are left out."""
    results = []
    for name in names:
        base, own = read_latest(work / f"{name}.jsonl")
        if base is None:
            continue
        trainings = [record for record in own if record["what"] == "training"]
        selections = list({record["key"]: record for record in own if record["what"] == "selection"}.values())
        overlaps = {record["arm"]: float(record["share"]) for record in own if record["what"] == "overlap"}
        groups = sorted(_groups(name, base, trainings), key=lambda group: (group.train_on, group.rank))
        if groups:
            results.append(TaskResults(name, base, groups, selections, overlaps))
    return results


def _groups(name: str, base: dict[str, Any], trainings: Sequence[dict[str, Any]]) -> Iterator[Group]:
    """Put trainings together by budget and rows; leave out what has no two arms with enough seeds."""
    learned = next(iter(base["metrics"]))
    lost = next(metric for metric in LOST if metric in base["metrics"])
    by_group: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for record in trainings:
        by_group.setdefault((record["rank"], record["train_on"]), []).append(record)
    for (rank, train_on), own in by_group.items():
        rows = "all rows" if train_on == "all" else "128 rows"
        title = f"{name}, {own[0]['num_trainable']:,} parameters, {rows}"
        make = partial(Comparison, title, learned, lost, base["metrics"])
        whole = make(sort_trainings(by_group.get((rank, "all"), []), itemgetter("arm")))
        rates = {arm: whole.rate("lora" if arm in LIKE_LORA else arm) for arm in EVERY}
        chosen = {arm: rate for arm, rate in rates.items() if rate is not None}
        grid = sorted({r["learning_rate"] for r in own if r["seed"] == GRID_SEED})
        group = Group(rank, train_on, make(sort_trainings(own, itemgetter("arm")), chosen), own, grid)
        if len(group.arms) > 1:
            yield group
