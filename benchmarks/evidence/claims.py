"""What differences add up to: a claim is counted over comparisons, and says no more than they do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.evidence.comparisons import Comparison
from benchmarks.evidence.differences import Difference, Lack

MIN_COMPARISONS = 3  # that a claim rests on


@dataclass(frozen=True)
class Tally:
    """How often a claim's differences fall how.

    Args:
        wins: the interval lies wholly on the claim's side.
        losses: wholly on the other.
        undecided: it has zero inside.
        lacking: there is no interval, for lack of trainings.
        apart: there is none, though all is trained: no level of learning is common to both arms.
        unchosen: there is none, since the trainings leave open which rate is an arm's.
    """

    wins: int
    losses: int
    undecided: int
    lacking: int
    apart: int = 0
    unchosen: int = 0

    @property
    def word(self) -> str:
        """Draw the conclusion; less than `MIN_COMPARISONS` intervals allow none."""
        measured = self.wins + self.losses + self.undecided
        if measured < MIN_COMPARISONS:
            return "too few comparisons"
        if self.wins and self.losses:
            return "mixed"
        if 2 * self.wins > measured:
            return "supported"
        return "contradicted" if 2 * self.losses > measured else "not supported"

    @property
    def counts(self) -> str:
        """Write the counts."""
        text = f"{_number(self.wins, 'win')}, {_number(self.losses, 'loss')}, {self.undecided} undecided"
        without = {Lack.TRAININGS: self.lacking, Lack.LEVEL: self.apart, Lack.RATE: self.unchosen}
        return ", ".join([text, *(f"{count} {why.value}" for why, count in without.items() if count)])

    @property
    def short(self) -> str:
        """Write conclusion and counts for a wide table: wins, losses, undecided; a dash where nothing is measured."""
        counts = (self.wins, self.losses, self.undecided)
        return f"**{self.word}** ({', '.join(map(str, counts))})" if sum(counts) else "–"

    def __str__(self) -> str:
        """Write conclusion and counts."""
        return f"**{self.word}**: {self.counts}"


def _number(count: int, what: str) -> str:
    """Write a number of wins or losses."""
    return f"{count} {what}" if count == 1 else f"{count} {what}{'es' if what.endswith('s') else 's'}"


def tally(differences: Iterable[Difference]) -> Tally:
    """Count differences by their verdicts."""
    every = list(differences)
    verdicts = [each.verdict for each in every if not each.lacks]
    lacks = [each.why for each in every if each.lacks]
    return Tally(*map(verdicts.count, (1, -1, 0)), *map(lacks.count, (Lack.TRAININGS, Lack.LEVEL, Lack.RATE)))


def split_learned(comparisons: Iterable[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    """Part comparisons that some arm learns from those at chance, which are in no count."""
    every = list(comparisons)
    learned = [each for each in every if each.is_learned()]
    return learned, [each for each in every if each not in learned]


def takes_part(comparison: Comparison, *arms: str) -> bool:
    """Return whether all of these arms have trainings, if only those that their rate is chosen by."""
    return all(arm in comparison.trainings for arm in arms)
