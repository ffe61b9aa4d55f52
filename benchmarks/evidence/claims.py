"""What differences add up to: a claim is counted over comparisons, and says no more than they do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.evidence.comparisons import Comparison, Difference

MIN_COMPARISONS = 3  # that a claim rests on


@dataclass(frozen=True)
class Tally:
    """How often a claim's differences fall how.

    Args:
        wins: the interval lies wholly on the claim's side.
        losses: wholly on the other.
        undecided: it has zero inside.
        lacking: there is no interval, for lack of trainings.
    """

    wins: int
    losses: int
    undecided: int
    lacking: int

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
        return f"{text}, {self.lacking} not trained" if self.lacking else text

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
    counts = {way: verdicts.count(way) for way in (1, -1, 0)}
    return Tally(counts[1], counts[-1], counts[0], len(every) - len(verdicts))


def split_learned(comparisons: Iterable[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    """Part comparisons that some arm learns from those at chance, which are in no count."""
    every = list(comparisons)
    learned = [each for each in every if each.is_learned()]
    return learned, [each for each in every if each not in learned]


def takes_part(comparison: Comparison, *arms: str) -> bool:
    """Return whether all of these arms have trainings, if only those that their rate is chosen by."""
    return all(arm in comparison.trainings for arm in arms)
