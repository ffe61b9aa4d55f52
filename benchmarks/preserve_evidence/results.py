"""What is finished, read back: of each task a comparison of all its arms, and one of each method's arms."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from benchmarks.evidence.comparisons import GRID_SEED, MIN_SEEDS, Comparison, sort_trainings
from benchmarks.evidence.store import read_latest
from benchmarks.preserve_evidence.arms import BUDGETS, METHODS, PARTS, Part, order_of
from knowtune.merging.choose import Candidate, choose
from knowtune.merging.mixtures.interpolate import Interpolate

LEARNED, LOST, DRIFT = "generalisation", "forgotten", "text_drift"
PLAIN_LORA = "lora: plain"
MAX_FORGOTTEN = Interpolate().max_forgotten  # of a chosen alpha: the default of the mixture


@dataclass(frozen=True)
class TaskResults:
    """All that is finished of a task.

    Args:
        name: of the task.
        base: the pristine base's piece.
        trainings: all finished ones.
        comparison: of all arms, named METHOD: PARTS.
        order: all arms, in the order of the page.
        timings: trainings done again on a second machine, for what they cost there.
    """

    name: str
    base: dict[str, Any]
    trainings: Sequence[dict[str, Any]]
    comparison: Comparison
    order: Sequence[str]
    timings: Sequence[dict[str, Any]] = ()

    @property
    def arms(self) -> list[str]:
        """The arms with enough seeds at their chosen rate, in the order of the page."""
        return [arm for arm in self.order if len(self.comparison.run(arm)) >= MIN_SEEDS]

    @property
    def unfinished(self) -> dict[str, int]:
        """The other arms, and how many seeds each has at its chosen rate."""
        return {
            arm: len(self.comparison.run(arm)) for arm in self.order if arm not in self.arms
        }  # fmt: skip

    @property
    def hours(self) -> float:
        """CPU hours of all trainings, with what came before them."""
        return sum(float(piece["cpu"]) + float(piece["ready"]) for piece in self.trainings) / 3600

    def of_method(self, method: str) -> Comparison | None:
        """Give the comparison of one method's arms, by their parts alone; None where there are no two of them."""
        lead = f"{method}: "
        own = {name.removeprefix(lead): of for name, of in self.comparison.trainings.items() if name.startswith(lead)}
        if sum(len(self.comparison.run(lead + parts)) >= MIN_SEEDS for parts in own) < 2:
            return None
        chosen = {parts: rate for parts in own if (rate := self.comparison.rate(lead + parts)) is not None}
        return Comparison(f"{self.name}, {method}", LEARNED, LOST, self.base["metrics"], own, chosen)

    def machine(self, arm: str) -> str | None:
        """Name the machine that most of an arm's trainings ran on; None of a mixture, which costs none."""
        ran = Counter(piece["machine"] for piece in self.trainings if piece["arm"] == arm)
        return ran.most_common(1)[0][0] if ran else None

    def median(self, arm: str, key: str, machine: str) -> float | None:
        """Give the median of a cost over what ran of an arm on one machine; None where nothing did."""
        ran = [*self.trainings, *self.timings]
        own = [float(piece[key]) for piece in ran if piece["arm"] == arm and piece["machine"] == machine]
        return statistics.median(own) if own else None

    def times_plain(self, arm: str, key: str) -> float | None:
        """Give a cost's median over that of plain training by the same method on the same machine, of a random mask."""
        machine, method = self.machine(arm), arm.partition(": ")[0]
        if machine is None:
            return None
        plain = f"{method}: {'random' if method in BUDGETS else 'plain'}"
        own, beside = self.median(arm, key, machine), self.median(plain, key, machine)
        return own / beside if own and beside else None


def read_results(
    work: Path, parts: Mapping[str, Sequence[Part]] = PARTS, methods: Iterable[str] = METHODS
) -> list[TaskResults]:
    """Read the tasks of which something is finished.

    Args:
        work: folder of finished pieces.
        parts: task -> what is trained of it.
        methods: in the order of the page.
    """
    results = []
    for name in parts:
        base, pieces = read_latest(work / f"{name}.jsonl")
        if base is None:
            continue
        pieces = list({piece["key"]: piece for piece in pieces}.values())
        trainings = [piece for piece in pieces if piece["what"] == "training"]
        mixtures = [piece for piece in pieces if piece["what"] == "mixture"]
        comparison = compare(name, base["metrics"], trainings, mixtures)
        timings = [piece for piece in pieces if piece["what"] == "timing"]
        results.append(TaskResults(name, base, trainings, comparison, order_of(parts[name], methods), timings))
    return [result for result in results if result.arms]


def compare(
    name: str,
    base: Mapping[str, float],
    trainings: Sequence[Mapping[str, Any]],
    mixtures: Sequence[Mapping[str, Any]] = (),
) -> Comparison:
    """Make the comparison of all arms of a task.

    Args:
        name: of the task.
        base: what it scores.
        trainings: finished ones.
        mixtures: theirs with the base, whose rate is alpha.
    """
    arms = sort_trainings(trainings, itemgetter("arm"))
    chosen = {arm: rate for arm in arms if (rate := Comparison(name, LEARNED, LOST, base, arms).rate(arm)) is not None}
    mixed = sort_trainings(mixtures, itemgetter("arm"), "alpha")
    for arm in mixed:
        own = [piece for piece in mixtures if piece["arm"] == arm and piece["seed"] == GRID_SEED]
        if own:
            chosen[arm] = chosen_alpha(own)
    return Comparison(name, LEARNED, LOST, base, {**arms, **mixed}, chosen)


def chosen_alpha(pieces: Sequence[Mapping[str, Any]]) -> float:
    """Choose an alpha by the rule of the mixture `interpolate`, on rows that no metric measures."""
    return choose([Candidate(piece["alpha"], **piece["choice"]) for piece in pieces], MAX_FORGOTTEN).alpha
