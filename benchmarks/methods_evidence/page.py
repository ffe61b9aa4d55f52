"""Writes docs/evidence-methods.md from what is finished: verdicts and tables. No number is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence import markdown
from benchmarks.evidence.claims import split_learned
from benchmarks.evidence.comparisons import GRID_SEED, SECOND_SEED, Comparison
from benchmarks.evidence.costs import costs_table
from benchmarks.evidence.curves import best_rates
from benchmarks.evidence.figure import add_legend, make_panels, save
from benchmarks.evidence.numbers import format_metric, metric_heads, versions
from benchmarks.evidence.tables import claims_table, equal_learning_table, mean_cells
from benchmarks.methods_evidence.arms import ALL, FULL, LOW_RANK, RATES, VIRTUAL, arms_of
from benchmarks.methods_evidence.board import beside_board, truncated
from benchmarks.methods_evidence.results import TaskResults, read_results
from benchmarks.methods_evidence.texts import (
    CHEAPER,
    CHEAPER_PAIRS,
    CLAIMS,
    COST_HEADS,
    COSTS,
    EQUAL,
    FULL_OPEN,
    INTRO,
    KASA,
    KASA_CLAIMS,
    LEARNING,
    LIMITS,
    NAMES,
    PART_CLAIMS,
    RULES,
    SK,
    SK_CLAIMS,
    TITLES,
    TRUNCATED,
)
from benchmarks.preserve_evidence.figures import draw_arm

LONG = 60  # seconds that a training was to take at most


def write_page(work: Path, docs: Path) -> None:
    """Write the page."""
    results = read_results(work)
    if not results:
        raise SystemExit(f"{work}: no comparison is finished yet; three seeds are needed")
    draw(results, docs / "images" / "evidence-methods.svg")
    markdown.write_page(docs / "evidence-methods.md", lines(results))


def lines(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield the page."""
    every, at_chance = split_learned(result.comparison for result in results)
    yield from INTRO
    yield from how_finished(results, at_chance)
    yield from ["", "## What is learned", "", *LEARNING, ""]
    for result in results:
        yield from [f"### {TITLES[result.name]}", "", *learned(result), ""]
    yield from ["![Learned against forgotten](images/evidence-methods.svg)", ""]
    yield from ["## What holds", "", *RULES, "", "### KaSA", "", *KASA, ""]
    yield from claims_table(every, KASA_CLAIMS, effects=True)
    if not any(FULL in result.arms for result in results):
        yield from ["", *FULL_OPEN]
    yield from ["", "Its parts, each left out:", ""]
    yield from claims_table(every, PART_CLAIMS, effects=True)
    yield from ["", "### SK-Tuning", "", *SK, ""]
    yield from claims_table(every, SK_CLAIMS, effects=True)
    yield from ["", "### What they cost", "", *CHEAPER, ""]
    yield from costs_table({result.name: result.costs for result in results}, CHEAPER_PAIRS, COST_HEADS)
    yield from ["", "## Which base is it that KaSA forgets?", "", *TRUNCATED, ""]
    yield from truncated(results)
    yield from ["", *beside_board(results)]
    yield from ["", "## Costs", "", *COSTS, ""]
    yield from costs(results)
    yield from ["", "## Forgetting at equal learning, one by one", "", *EQUAL, ""]
    pairs = [(claim.one, claim.other) for claim in CLAIMS]
    lost = list(dict.fromkeys(each.lost for each in every))
    yield from equal_learning_table(every, pairs, NAMES, lost)
    yield from ["", "## How it was made", "", *how_made(results), "", "## What falls short", "", *LIMITS]


def how_finished(results: Sequence[TaskResults], at_chance: Sequence[Comparison]) -> Iterator[str]:
    """Yield what the page rests on, and what is not finished."""
    yield ""
    by_name = {result.name: result for result in results}
    for name in RATES:
        result = by_name.get(name)
        if result is None:
            yield f"- **{name}**: not finished when this page was made."
            continue
        done = ", ".join(f"{arm} ({len(result.comparison.run(arm))})" for arm in result.arms)
        text = f"- **{name}**, arms with at least three seeds, and how many: {done}."
        text += f" Not finished: {', '.join(result.unfinished)}." if result.unfinished else ""
        text += f" Rate open: {', '.join(result.open)}." if result.open else ""
        at_an_end = ", ".join(result.at_an_end)
        yield text + (f" Best at an end of the rates tried so far: {at_an_end}." if at_an_end else "")
    for comparison in at_chance:
        yield f"- **{comparison.name}** is in no count: no arm learns it."


def learned(result: TaskResults) -> Iterator[str]:
    """Yield a line for each arm at its chosen rate: what it learns and loses."""
    comparison = result.comparison
    measures = list(dict.fromkeys((comparison.learned, comparison.lost, *_more(result))))
    yield f"| arm | seeds | rate | {' | '.join(metric_heads(measures))} |"
    yield "| --- " * (3 + len(measures)) + "|"
    base = [format_metric(name, comparison.base[name], None) for name in measures]
    yield f"| base | – | – | {' | '.join(base)} |"
    for arm in [each.name for each in arms_of(result.name) if each.name in (*result.arms, *result.open)]:
        if arm in result.open:
            cells = ["–", why_open(comparison, arm), *["–"] * len(measures)]
        else:
            cells = [str(len(comparison.run(arm))), f"{comparison.rate(arm):g}", *mean_cells(comparison, arm, measures)]
        yield f"| {arm} | {' | '.join(cells)} |"


def why_open(comparison: Comparison, arm: str) -> str:
    """Write what the seeds that rates are chosen by learn at the rates between which they do not decide."""
    seeds = []
    for seed in (GRID_SEED, SECOND_SEED):
        if tried := comparison.trainings[arm].get(seed):
            best = best_rates(tried, comparison.learned)
            share = format_metric(comparison.learned, tried[best[0]][comparison.learned], None)
            where = "every rate" if len(best) == len(tried) else f"{len(best)} of {len(tried)} rates"
            seeds.append(f"seed {seed} has {share} at {where}")
    return f"open: {', '.join(seeds)}"


def _more(result: TaskResults) -> list[str]:
    """List the measures beside those of learning and forgetting."""
    return [name for name in ("reliability", "text_drift") if name in result.comparison.base]


def costs(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield the median cost of an arm's short trainings, beside LoRA's."""
    yield "| task | arm | trainable | × LoRA | CPU ms of a step | × LoRA | peak memory, MB | × LoRA |"
    yield "| --- " * 8 + "|"
    for result in results:
        for arm in dict.fromkeys(piece["arm"] for piece in result.costs):
            cells = []
            for key, scale, digits in (("num_trainable", 1.0, 0), ("cpu", 1e3, 1), ("memory", 1e-6, 0)):
                own, beside = result.median(arm, key), result.median("LoRA", key, beside=arm)
                cells += [f"{own * scale:,.{digits}f}", f"{own / beside:.2f}"]
            yield f"| {result.name} | {arm} | {' | '.join(cells)} |"


def how_made(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield settings, sizes, hours and versions."""
    for result in results:
        sizes = result.base["sizes"]
        examples = ", ".join(f"{count} {kind}" for kind, count in sorted(sizes["items"].items()))
        yield (
            f"- {result.name}: a base of {sizes['parameters']:,} parameters; {sizes['rows']} rows, {sizes['steps']} "
            f"steps of {sizes['batch_size']}; measured on {examples} examples and {sizes['texts']} texts; "
            f"{sizes['virtual_tokens']} virtual tokens; {len(result.trainings)} trainings in {result.hours:.1f} CPU "
            "hours."
        )
        yield f"- Learning rates, {result.name}, to begin with: {json.dumps(RATES[result.name])}."
    yield "- Rates are chosen with seed 100, where that leaves them open with 101; seeds 0 to 4 are the results."
    yield from _hours([piece for result in results for piece in result.trainings])
    yield f"- {versions()}"


def _hours(trainings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what all trainings took, beside what was planned."""
    cpu = [float(piece["cpu"]) for piece in trainings]
    by_clock = sum(float(piece["wall"]) > LONG for piece in trainings)
    yield (
        f"- All {len(cpu)} trainings took {sum(cpu) / 3600:.2f} CPU hours of one core; two were planned, and at most "
        f"{LONG} seconds a training. {sum(each > LONG for each in cpu)} took more CPU time than that, the longest "
        f"{max(cpu):.0f} seconds; by the clock, beside other work on the same cores, {by_clock} did. Attaching, "
        "judging and the short trainings for costs are not counted."
    )


def draw(results: Sequence[TaskResults], path: Path) -> None:
    """Draw a panel per task and kind of adapter: forgotten (right) against learned (up), means over seeds."""
    families = {LOW_RANK: (LOW_RANK, ALL), VIRTUAL: (VIRTUAL,)}
    panels = [
        (result, title, [arm.name for arm in arms_of(result.name) if arm.family in of and arm.name in result.arms])
        for result in results
        for title, of in families.items()
    ]
    panels = [panel for panel in panels if panel[2]]
    figure, axes = make_panels(len(panels), min(2, len(panels)), 4.4, 3.4)
    names = list(dict.fromkeys(arm for *_, arms in panels for arm in arms))
    for ax, (result, title, arms) in zip(axes, panels, strict=True):
        for arm in arms:
            draw_arm(ax, result.comparison, arm, arm, names.index(arm))
        ax.set_title(f"{result.name}, {title}", fontsize=8)
        ax.set_xlabel(f"{result.comparison.lost} (less is better)", fontsize=8)
        ax.set_ylabel(result.comparison.learned, fontsize=8)
    add_legend(figure, axes, columns=4)
    save(figure, path)
