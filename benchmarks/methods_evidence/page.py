"""Writes docs/evidence-methods.md from what is finished: verdicts and tables. No number is typed by hand."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.evidence import markdown
from benchmarks.evidence.claims import split_learned
from benchmarks.evidence.comparisons import Comparison
from benchmarks.evidence.costs import costs_table
from benchmarks.evidence.figure import add_legend, make_panels, save
from benchmarks.evidence.numbers import format_metric, metric_heads, versions
from benchmarks.evidence.tables import claims_table, equal_learning_table, mean_cells
from benchmarks.methods_evidence.arms import LOW_RANK, RATES, VIRTUAL, arms_of
from benchmarks.methods_evidence.results import TaskResults, read_results
from benchmarks.methods_evidence.texts import (
    CHEAPER,
    CHEAPER_PAIRS,
    CLAIMS,
    COST_HEADS,
    COSTS,
    EQUAL,
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
from knowtune.common.statistics import mean_interval


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
    for arm in result.arms:
        cells = [str(len(comparison.run(arm))), f"{comparison.rate(arm):g}", *mean_cells(comparison, arm, measures)]
        yield f"| {arm} | {' | '.join(cells)} |"


def _more(result: TaskResults) -> list[str]:
    """List the measures beside those of learning and forgetting."""
    return [name for name in ("reliability", "text_drift") if name in result.comparison.base]


def truncated(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield what KaSA forgets of the pristine base, and of its truncated one."""
    yield "| task | arm | forgotten of the pristine base | forgotten of the truncated base |"
    yield "| --- " * 4 + "|"
    for result in results:
        if result.truncated is None:
            continue
        untrained = format_metric("forgotten", result.truncated["forgotten"], None)
        yield f"| {result.name} | truncated, not trained | {untrained} | – |"
        for arm in result.arms:
            run = list(result.comparison.run(arm).values())
            if all("forgotten_of_truncated" in scores for scores in run):
                means = [
                    mean_interval([scores[name] for scores in run]) for name in ("forgotten", "forgotten_of_truncated")
                ]
                cells = [format_metric("forgotten", each["mean"], each["half_width"]) for each in means]  # type: ignore[arg-type]
                yield f"| {result.name} | {arm} | {' | '.join(cells)} |"


def beside_board(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield what the choice of the base does to PEFT's comparison."""
    hidden = []
    for result in results:
        run = list(result.comparison.run("KaSA").values())
        if result.truncated is not None and run:
            gaps = [scores["forgotten"] - scores["forgotten_of_truncated"] for scores in run]
            own, gap = statistics.fmean(scores["forgotten"] for scores in run), statistics.fmean(gaps)
            hidden.append(f"{100 * gap:.1f} of {100 * own:.1f} points ({result.name})")
    if hidden:
        yield f"- Measured against the truncated base, KaSA's forgetting is smaller by {', '.join(hidden)}."
        yield "- So the board's number for KaSA is a lower bound of what a user loses, and not comparable with others'."


def costs(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield the median cost of an arm's short trainings, beside LoRA's."""
    yield "| task | arm | trainable | × LoRA | CPU ms of a step | × LoRA | peak memory, MB | × LoRA |"
    yield "| --- " * 8 + "|"
    for result in results:
        for arm in dict.fromkeys(piece["arm"] for piece in result.costs):
            cells = []
            for key, scale, digits in (("num_trainable", 1.0, 0), ("cpu", 1e3, 1), ("memory", 1e-6, 0)):
                own, beside = result.median(arm, key), result.median("LoRA", key)
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
    yield "- Rates are chosen with seed 100; seeds 0 to 4 are the results."
    yield f"- {versions()}"


def draw(results: Sequence[TaskResults], path: Path) -> None:
    """Draw a panel per task and kind of adapter: forgotten (right) against learned (up), means over seeds."""
    panels = [
        (result, family, [arm.name for arm in arms_of(result.name) if arm.family == family and arm.name in result.arms])
        for result in results
        for family in (LOW_RANK, VIRTUAL)
    ]
    panels = [panel for panel in panels if panel[2]]
    figure, axes = make_panels(len(panels), min(2, len(panels)), 4.4, 3.4)
    names = list(dict.fromkeys(arm for *_, arms in panels for arm in arms))
    for ax, (result, family, arms) in zip(axes, panels, strict=True):
        for arm in arms:
            draw_arm(ax, result.comparison, arm, arm, names.index(arm))
        ax.set_title(f"{result.name}, {family}", fontsize=8)
        ax.set_xlabel(f"{result.comparison.lost} (less is better)", fontsize=8)
        ax.set_ylabel(result.comparison.learned, fontsize=8)
    add_legend(figure, axes, columns=4)
    save(figure, path)
