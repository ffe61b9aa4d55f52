"""Writes docs/evidence-imsm.md from what is finished: verdicts and tables. No number is typed by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.evidence import markdown
from benchmarks.evidence.comparisons import GRID_SEED
from benchmarks.evidence.tables import claims_table, equal_learning_table
from benchmarks.imsm_evidence.arms import METHODS, PARTS, RATES
from benchmarks.imsm_evidence.bench import QUANTILES
from benchmarks.imsm_evidence.texts import CLAIMS, COSTS, EQUAL, GATES, INTRO, LIMITS, NAMES, RULES, TARGETS
from benchmarks.preserve_evidence.figures import draw_frontier
from benchmarks.preserve_evidence.page import comparisons, costs, how_finished, how_made, learned_and_kept, table
from benchmarks.preserve_evidence.results import DRIFT, LOST, TaskResults, read_results
from benchmarks.preserve_evidence.texts import TITLES


def write_page(work: Path, docs: Path) -> None:
    """Write the page."""
    results = read_results(work, PARTS, METHODS)
    if not results:
        raise SystemExit(f"{work}: no comparison is finished yet; three seeds are needed")
    draw_frontier(results, docs / "images" / "evidence-imsm.svg", METHODS)
    markdown.write_page(docs / "evidence-imsm.md", lines(results))


def lines(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield the page."""
    every = comparisons(results, METHODS)
    yield from INTRO
    yield from how_finished(results, PARTS)
    yield from ["", "## Learned and kept", "", *TARGETS, ""]
    yield from learned_and_kept(results)
    yield from ["![Learned against forgotten](images/evidence-imsm.svg)", ""]
    yield from ["## What holds", "", *RULES, ""]
    yield from claims_table(every, CLAIMS)
    yield from ["", "## What does the gate do?", "", *GATES, ""]
    yield from gates(results)
    yield from ["", "## Costs", "", *COSTS, ""]
    yield from costs(results)
    yield from ["", "## Forgetting at equal learning, one by one", "", *EQUAL, ""]
    yield from equal_learning_table(every, [(claim.one, claim.other) for claim in CLAIMS], NAMES, [LOST, DRIFT])
    for result in results:
        yield from ["", f"## {TITLES[result.name]}", ""]
        yield from table(result)
    yield from ["", "## How it was made", ""]
    yield from how_made(results, RATES)
    yield from ["", "## What falls short", "", *LIMITS]


def gates(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield a line for each arm and kind of text: the gate's mean, and its quantiles over dimensions."""
    heads = [f"{quantile:.0%} of dimensions" for quantile in QUANTILES]
    yield f"| task | arm | read | mean | {' | '.join(heads)} |"
    yield "| --- " * (4 + len(heads)) + "|"
    for result in results:
        for arm in result.arms:
            rate = result.comparison.rate(arm)
            own = [
                piece["gates"]
                for piece in result.trainings
                if piece["arm"] == arm and piece["learning_rate"] == rate and piece["seed"] != GRID_SEED
                and "gates" in piece
            ]  # fmt: skip
            for kind in own[0] if own else ():
                means = [statistics.fmean(values) for values in zip(*(each[kind] for each in own), strict=True)]
                yield f"| {result.name} | {arm} | {kind} | {' | '.join(f'{mean:.2f}' for mean in means)} |"
