"""Writes docs/evidence-imsm.md from what is finished: verdicts and tables. No number is typed by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.evidence import markdown
from benchmarks.evidence.tables import claims_table, equal_learning_table
from benchmarks.imsm_evidence.arms import METHODS, PARTS, RATES
from benchmarks.imsm_evidence.bench import QUANTILES
from benchmarks.imsm_evidence.figures import COLOURS, draw_gates, gates_of, woven_arms
from benchmarks.imsm_evidence.texts import (
    CLAIMS,
    COSTS,
    DRAWN,
    EQUAL,
    FAST_GATE,
    GATES,
    INTRO,
    LIMITS,
    NAMES,
    PAPER,
    PAPER_CLAIMS,
    RULES,
    TARGETS,
    TIME_AND_SPACE,
)
from benchmarks.preserve_evidence.figures import draw_frontier
from benchmarks.preserve_evidence.page import comparisons, costs, how_finished, how_made, learned_and_kept, table
from benchmarks.preserve_evidence.results import DRIFT, LOST, TaskResults, read_results
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
    yield from ["![Learned against forgotten](images/evidence-imsm.svg)", ""]
    yield from ["## What holds", "", *RULES, ""]
    yield from claims_table(every, CLAIMS)
    yield from ["", "## What the paper says, and what is seen here", "", *PAPER, ""]
    yield from claims_table(every, PAPER_CLAIMS)
    yield from ["", *TIME_AND_SPACE, ""]
    yield from time_and_space(results)
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


def time_and_space(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield what weaving costs: the range over tasks and inner methods, beside the adapter alone."""
    for key, what in (("cpu", "CPU seconds of training"), ("memory", "peak memory of training")):
        ratios = [ratio for result in results for arm in result.arms if (ratio := _beside_plain(result, arm, key))]
        if ratios:
            yield (
                f"- {what}: {min(ratios):.2f} to {max(ratios):.2f} times the adapter alone, median "
                f"{statistics.median(ratios):.2f}, over {len(ratios)} comparisons."
            )


def _beside_plain(result: TaskResults, arm: str, key: str) -> float | None:
    """Give a woven arm's cost beside the same adapter's alone on the same machine; None for any other arm."""
    method, _, parts = arm.partition(": ")
    machine = result.machine(arm)
    if parts not in (FAST_GATE, "woven") or machine is None:
        return None
    own, beside = result.median(arm, key, machine), result.median(f"{method}: plain", key, machine)
    return own / beside if own is not None and beside else None
