"""Writes docs/evidence-imsm.md from what is finished: verdicts and tables. No number is typed by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evidence import markdown
from benchmarks.evidence.comparisons import MIN_SEEDS
from benchmarks.evidence.costs import costs_table
from benchmarks.evidence.tables import claims_table, equal_learning_table
from benchmarks.imsm_evidence.arms import METHODS, PARTS, RATES
from benchmarks.imsm_evidence.bench import QUANTILES
from benchmarks.imsm_evidence.figures import COLOURS, draw_gates, gates_of, woven_arms
from benchmarks.imsm_evidence.texts import (
    CLAIMS,
    COST_HEADS,
    COST_PAIRS,
    COSTS,
    DRAWN,
    EQUAL,
    GATES,
    INTRO,
    LIMITS,
    NAMES,
    PAPER,
    PAPER_CLAIMS,
    RULES,
    TARGET,
    TARGETS,
    TIME_AND_SPACE,
)
from benchmarks.preserve_evidence.figures import draw_frontier
from benchmarks.preserve_evidence.page import comparisons, costs, how_finished, how_made, learned_and_kept, table
from benchmarks.preserve_evidence.results import DRIFT, LEARNED, LOST, PLAIN_LORA, TaskResults, read_results
from benchmarks.preserve_evidence.texts import TITLES
from knowtune.common.statistics import mean_interval


def write_page(work: Path, docs: Path) -> None:
    """Write the page."""
    results = results_in(work)
    if not results:
        raise SystemExit(f"{work}: no comparison is finished yet; three seeds are needed")
    draw_frontier(results, docs / "images" / "evidence-imsm.svg", METHODS)
    draw_gates(results, DRAWN, docs / "images" / "evidence-imsm-gates.svg")
    markdown.write_page(docs / "evidence-imsm.md", lines(results))


def results_in(work: Path) -> list[TaskResults]:
    """Read what is finished."""
    return read_results(work, PARTS, METHODS)


def lines(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield the page."""
    every = comparisons(results, METHODS)
    yield from INTRO
    yield from how_finished(results, PARTS)
    yield from ["", "## Learned and kept", "", *TARGETS, ""]
    yield from learned_and_kept(results)
    yield from target(results)
    yield from ["", "![Learned against forgotten](images/evidence-imsm.svg)", ""]
    yield from ["## What holds", "", *RULES, ""]
    yield from claims_table(every, [claim for claim in CLAIMS if claim not in PAPER_CLAIMS], effects=True)
    yield from ["", "## What the paper says, and what is seen here", "", *PAPER, ""]
    yield from claims_table(every, PAPER_CLAIMS, effects=True)
    yield from ["", *TIME_AND_SPACE, ""]
    yield from costs_table(
        {result.name: [*result.trainings, *result.timings] for result in results}, COST_PAIRS, COST_HEADS
    )
    yield from ["", "## What does the gate do?", "", *GATES, ""]
    yield from ["![What gates let through](images/evidence-imsm-gates.svg)", ""]
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
    """Yield a line for each woven arm and kind of text: the gate's mean, and quantiles over dimensions."""
    shown = [0, QUANTILES.index(0.5), len(QUANTILES) - 1]
    heads = [f"{QUANTILES[at]:.0%} of dimensions" for at in shown]
    yield f"| task | arm | read | mean | {' | '.join(heads)} | tells known from new |"
    yield "| --- " * (5 + len(heads)) + "|"
    for result, arm in woven_arms(results):
        records = gates_of(result, arm)
        apart = mean_interval([piece["auc"] for piece in records])
        for kind in COLOURS:
            own = [piece["gates"][kind] for piece in records]
            quantiles = [statistics.fmean(each["quantiles"][at] for each in own) for at in shown]
            means = [statistics.fmean(each["mean"] for each in own), *quantiles]
            last = f"{apart['mean']:.2f} ± {apart['half_width']:.2f}" if kind == "known" else ""
            yield f"| {result.name} | {arm} | {kind} | {' | '.join(f'{mean:.2f}' for mean in means)} | {last} |"


def target(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield whether any arm and rate learns and keeps what is asked for, by the means; else the nearest ones."""
    for result in results:
        if result.name not in TARGET:
            continue
        goal, means = TARGET[result.name], list(_means(result))
        plain = max((each for each in means if each.arm == PLAIN_LORA), key=lambda each: each.learned, default=None)
        if plain is None:
            continue
        yield f"- {result.name}, asked: {goal}. Plain LoRA learns most at {plain.rate:g}: {plain}."
        woven = [each for each in means if "woven" in each.arm]
        enough = [each for each in woven if each.learned >= plain.learned - goal.behind]
        kept = [each for each in woven if each.lost <= goal.lost]
        if reached := [each for each in enough if each in kept]:
            yield f"- Reached by {'; '.join(f'{each.arm} at {each.rate:g}: {each}' for each in reached)}."
            continue
        yield "- No woven arm reaches it at any rate."
        if enough:
            best = min(enough, key=lambda each: each.lost)
            yield f"- Of those that learn enough, {best.arm} at {best.rate:g} forgets least: {best}."
        if kept:
            best = max(kept, key=lambda each: each.learned)
            yield f"- Of those that keep enough, {best.arm} at {best.rate:g} learns most: {best}."


@dataclass(frozen=True)
class Mean:
    """What an arm scores at a rate, in the mean over seeds."""

    arm: str
    rate: float
    learned: float
    lost: float

    def __str__(self) -> str:
        """Write both."""
        return f"{100 * self.learned:.1f} % learned, {100 * self.lost:.1f} % forgotten"


def _means(result: TaskResults) -> Iterator[Mean]:
    """Yield the means of each arm and rate with enough seeds."""
    for arm in result.arms:
        seeds = result.comparison.seeds(arm).values()
        for rate in sorted({rate for rates in seeds for rate in rates}):
            own = [rates[rate] for rates in seeds if rate in rates]
            if len(own) >= MIN_SEEDS:
                learned, lost = (statistics.fmean(scores[name] for scores in own) for name in (LEARNED, LOST))
                yield Mean(arm, rate, learned, lost)
