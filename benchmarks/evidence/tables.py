"""Tables of an evidence page, made from comparisons by the rules of `benchmarks.evidence.comparisons`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.evidence.claims import takes_part, tally
from benchmarks.evidence.comparisons import Comparison
from benchmarks.evidence.differences import Difference
from benchmarks.evidence.markdown import difference_text, levels_text
from benchmarks.evidence.numbers import format_metric, metric_heads
from knowtune.common.statistics import mean_interval

Names = Mapping[str, str]  # arm -> what the page calls it
Pairs = Sequence[tuple[str, str]]
BREAK = "<br>"  # of a line within a cell


@dataclass(frozen=True)
class Claim:
    """What is claimed if one arm is better than the other.

    Args:
        one: an arm.
        other: the arm that it is held against.
        text: the claim.
        only: counted are comparisons whose name has this.
    """

    one: str
    other: str
    text: str
    only: str = ""


def claims_table(comparisons: Sequence[Comparison], claims: Sequence[Claim], *, effects: bool = False) -> Iterator[str]:
    """Yield a line per claim, counted over the comparisons that both arms take part in.

    Args:
        comparisons: of the arms.
        claims: on them.
        effects: write below each count the differences that it is of.
    """
    yield "| claim | learning | forgetting at equal learning |"
    yield "| --- | --- | --- |"
    for claim in claims:
        pair = claim.one, claim.other
        of = [each for each in comparisons if claim.only in each.name and takes_part(each, *pair)]
        if of:
            learned = {each.name: each.difference(*pair, each.learned) for each in of}
            lost = {each.name: each.at_equal_learning(*pair) for each in of}
            cells = [
                [str(tally(column.values())), *(_effects(column) if effects else ())] for column in (learned, lost)
            ]
            yield f"| {claim.text} | {' | '.join(BREAK.join(cell) for cell in cells)} |"


def _effects(differences: Mapping[str, Difference]) -> Iterator[str]:
    """Yield the differences that can be taken, by the comparisons' names."""
    for name, difference in differences.items():
        if not difference.lacks:
            yield f"{name} {difference_text(difference)}"


def headline(comparisons: Sequence[Comparison], one: str, other: str, names: Names) -> Iterator[str]:
    """Yield a sentence on two arms, where both take part in a comparison."""
    of = [each for each in comparisons if takes_part(each, one, other)]
    if of:
        learned = tally(each.difference(one, other, each.learned) for each in of)
        lost = tally(each.at_equal_learning(one, other) for each in of)
        yield (
            f"- **{names[one]} against {names[other]}**: learning {learned.counts}; forgetting at equal learning "
            f"{lost.counts} ({lost.word})."
        )


def equal_learning_table(
    comparisons: Sequence[Comparison], pairs: Pairs, names: Names, lost: Sequence[str]
) -> Iterator[str]:
    """Yield a line for every two arms and comparison whose curves reach a common level.

    Args:
        comparisons: of the arms.
        pairs: of arms.
        names: of arms.
        lost: the columns, metrics of forgetting; one that a comparison has not is a dash.
    """
    heads = ["difference by seed", "comparison", "seeds", "at learning of", *metric_heads(list(lost))]
    yield f"| {' | '.join(heads)} |"
    yield "| --- " * len(heads) + "|"
    for one, other in pairs:
        for comparison in comparisons:
            difference = comparison.at_equal_learning(one, other)
            if difference.lacks:
                continue
            cells = [f"{names[one]} − {names[other]}", comparison.name, str(len(difference.seeds))]
            cells.append(levels_text(difference, comparison.learned))
            for name in lost:
                has_it = name in comparison.base
                cells.append(difference_text(comparison.at_equal_learning(one, other, name)) if has_it else "–")
            yield f"| {' | '.join(cells)} |"


def trained_table(comparisons: Sequence[Comparison], pairs: Pairs, names: Names) -> Iterator[str]:
    """Yield a table of what is trained: of every comparison, which differences of the pairs can be taken."""
    yield f"| comparison | {' | '.join(f'{names[one]} − {names[other]}' for one, other in pairs)} |"
    yield "| --- " * (1 + len(pairs)) + "|"
    for comparison in comparisons:
        cells = []
        for one, other in pairs:
            kinds = {
                "learning": comparison.difference(one, other, comparison.learned),
                "forgetting": comparison.at_equal_learning(one, other),
            }
            cells.append(" and ".join(kind for kind, difference in kinds.items() if not difference.lacks) or "–")
        yield f"| {comparison.name} | {' | '.join(cells)} |"


def differences_table(comparison: Comparison, pairs: Pairs, names: Names, metrics: Sequence[str]) -> Iterator[str]:
    """Yield the differences at the chosen rates; for metrics of learning, since rates differ in what they forget."""
    heads = metric_heads(list(metrics))
    yield f"| difference by seed | {' | '.join(heads)} |"
    yield "| --- " * (1 + len(heads)) + "|"
    for one, other in pairs:
        differences = [comparison.difference(one, other, name) for name in metrics]
        if not any(difference.lacks for difference in differences):
            yield f"| {names[one]} − {names[other]} | {' | '.join(map(difference_text, differences))} |"


def mean_cells(comparison: Comparison, arm: str, metrics: Sequence[str]) -> list[str]:
    """Write an arm's mean and interval at its chosen rate, of each metric."""
    run = list(comparison.run(arm).values())
    means = [(name, mean_interval([scores[name] for scores in run])) for name in metrics]
    return [format_metric(name, each["mean"], each["half_width"]) for name, each in means]  # type: ignore[arg-type]
