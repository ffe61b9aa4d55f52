"""Writes docs/evidence.md from what is finished: verdicts, tables, costs, figures. No number is typed by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence import markdown
from benchmarks.evidence.numbers import format_metric, metric_heads, verdict, versions
from benchmarks.selection_evidence.figures import draw_differences, draw_plane
from benchmarks.selection_evidence.masks import mask_tables
from benchmarks.selection_evidence.results import (
    ARMS,
    NAMES,
    PAIRS,
    VARIANTS,
    Group,
    TaskResults,
    read_results,
)
from benchmarks.selection_evidence.texts import CLAIMS, COSTS, CUTS, EQUAL, LIMITS, PLANE, RULES, TASKS, intro
from knowtune.common.statistics import mean_interval


def write_page(work: Path, docs: Path) -> None:
    """Write the page and its figures."""
    results = read_results(work, list(TASKS))
    if not results:
        raise SystemExit(f"{work}: no comparison is finished yet")
    (docs / "images").mkdir(parents=True, exist_ok=True)
    draw_plane(results, docs / "images" / "evidence-plane.svg")
    draw_differences(results, docs / "images" / "evidence-differences.svg")
    markdown.write_page(docs / "evidence.md", lines(results, work))


def lines(results: Sequence[TaskResults], work: Path) -> Iterator[str]:
    """Yield the page."""
    yield from intro()
    yield from ["", "## In short", ""]
    yield from headlines(results)
    yield from ["", "## Verdicts", ""]
    yield from verdicts(results)
    yield from ["", "![Learned against lost](images/evidence-plane.svg)", ""]
    yield from PLANE
    yield from ["", "![Differences by seed](images/evidence-differences.svg)", ""]
    yield from ["", "## Forgetting at equal learning", ""]
    yield from equal_learning(results)
    for result in results:
        yield from ["", f"## {TASKS[result.name]}", ""]
        yield from task_tables(result)
    yield from ["", "## Where the masks lie", ""]
    yield from mask_tables(results, work)
    yield from ["", "## What it costs", ""]
    yield from costs(results)
    yield from ["", "## How it was made", ""]
    yield from how_made(results)
    yield from ["", "## What falls short", "", *LIMITS]


def headlines(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield a sentence for each question, over all comparisons, and one about costs."""
    groups = [group for result in results for group in result.groups]
    for one, other in (("fish", "random"), ("ird", "random"), ("ird", "fish"), ("fish", "lora"), ("ird", "lora")):
        learned = [verdict(g.learned[0], each) for g in groups if (each := g.difference(one, other, g.learned[0]))]
        lost = [verdict(g.lost, each) for g in groups if (each := g.difference(one, other, g.lost))]
        yield (
            f"- **{NAMES[one]} against {NAMES[other]}**: learned more in {learned.count(1)} of {len(learned)} "
            f"comparisons and less in {learned.count(-1)}; lost less in {lost.count(1)} and more in {lost.count(-1)}."
        )
    for group in groups:
        differences = [(arm, group.difference_at_level(arm, "lora")) for arm in (*ARMS, *VARIANTS) if arm != "lora"]
        if any(each for _, each in differences):
            texts = "; ".join(f"{NAMES[arm]} {mark_difference(group.lost, each)}" for arm, each in differences if each)
            yield f"- **At equal learning** ({group.title}), lost beside LoRA, in points: {texts}."
    for arm in ("fish", "ird"):
        shares = [
            statistics.median(float(r["cpu"]) for r in result.selections if (r["arm"], r["rank"]) == (arm, group.rank))
            / seconds(group, "lora")
            for result in results
            for group in result.groups
            if group.train_on == "all"
        ]
        yield (
            f"- **{NAMES[arm]}'s selection** takes {min(shares):.0%} to {max(shares):.0%} of the time of one of LoRA's "
            "(short) trainings, on top of its own."
        )


def verdicts(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield one line per claim, counted over comparisons, for learning and for forgetting."""
    groups = [group for result in results for group in result.groups]
    yield "| claim | learning | forgetting | forgetting at equal learning |"
    yield "| --- | --- | --- | --- |"
    for one, other, train_on, claim in CLAIMS:
        of = [group for group in groups if group.train_on == train_on]
        judged = (
            [verdict(g.learned[0], each) for g in of if (each := g.difference(one, other, g.learned[0]))],
            [verdict(g.lost, each) for g in of if (each := g.difference(one, other, g.lost))],
            [verdict(g.lost, each) for g in of if (each := g.difference_at_level(one, other))],
        )
        if judged[0]:
            yield f"| {claim} | {' | '.join(map(count_verdicts, judged))} |"
    yield ""
    yield from RULES


def count_verdicts(judged: Sequence[int]) -> str:
    """Count for, against and open, and draw the conclusion."""
    if not judged:
        return "–"
    pro, con = judged.count(1), judged.count(-1)
    word = (
        "mixed" if pro and con
        else "supported" if 2 * pro > len(judged)
        else "contradicted" if 2 * con > len(judged)
        else "not supported"
    )  # fmt: skip
    return f"**{word}**: {pro} for, {con} against, {len(judged) - pro - con} open"


def equal_learning(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield a table of what each arm loses where all have learned the same."""
    yield from EQUAL
    yield ""
    arms = (*ARMS, *VARIANTS)
    yield f"| comparison | seeds | learned | lost: {' | '.join(NAMES[arm] for arm in arms)} |"
    yield "| --- " * (3 + len(arms)) + "|"
    groups = [group for result in results for group in result.groups if group.whole_seeds]
    groups = [group for group in groups if group.level > group.learned[1]]  # an arm that learns nothing sets no level
    for group in groups:
        cells = []
        for arm in arms:
            values = group.lost_at_level(arm)
            mean = mean_interval(values) if values else None
            cells.append(format_metric(group.lost, mean["mean"], mean["half_width"]) if mean else "–")  # type: ignore[arg-type]
        level = format_metric(group.learned[0], group.level, None)
        yield f"| {group.title} | {len(group.whole_seeds)} | {level} | {' | '.join(cells)} |"
    tested = [group for group in groups if len(group.whole_seeds) > 2]
    if tested:
        yield from ["", f"| difference by seed | {' | '.join(group.title for group in tested)} |"]
        yield "| --- " * (1 + len(tested)) + "|"
        for one, other in PAIRS:
            differences = [group.difference_at_level(one, other) for group in tested]
            if not any(differences):
                continue
            texts = [mark_difference(group.lost, d) if d else "–" for group, d in zip(tested, differences, strict=True)]
            yield f"| {NAMES[one]} − {NAMES[other]} | {' | '.join(texts)} |"


def task_tables(result: TaskResults) -> Iterator[str]:
    """Yield a table of arms and one of differences for every comparison of a task."""
    heads = metric_heads(result.metrics)
    base = " | ".join(format_metric(name, value, None) for name, value in result.base["metrics"].items())
    for group in result.groups:
        rates = ", ".join(f"{rate:g}" for rate in group.learning_rates)
        tried = f"learning rates {rates}" if rates else "learning rates as chosen for all rows"
        yield from [f"### {group.title}", "", f"LoRA's rank {group.rank}; {tried}.", ""]
        yield f"| arm | learning rate | seeds | {' | '.join(heads)} |"
        yield "| --- " * (3 + len(heads)) + "|"
        yield f"| base | – | – | {base} |"
        for arm in group.arms:
            means = [(name, mean_interval(group.values(arm, name))) for name in result.metrics]
            cells = " | ".join(format_metric(name, each["mean"], each["half_width"]) for name, each in means)  # type: ignore[arg-type]
            rate = f"{group.rates[arm]:g}{' (edge)' if group.at_edge(arm) else ''}"
            yield f"| {NAMES[arm]} | {rate} | {len(group.run(arm))} | {cells} |"
        yield ""
        yield f"| difference by seed | {' | '.join(heads)} |"
        yield "| --- " * (1 + len(heads)) + "|"
        for one, other in PAIRS:
            differences = [(name, group.difference(one, other, name)) for name in result.metrics]
            if any(difference is None for _, difference in differences):
                continue
            yield f"| {NAMES[one]} − {NAMES[other]} | {' | '.join(mark_difference(*each) for each in differences)} |"
        yield ""


def mark_difference(name: str, difference: dict[str, Any] | None) -> str:
    """Write a difference; what an interval shows stands bold."""
    assert difference is not None
    text = format_metric(name, difference["mean"], difference["half_width"], sign=True)
    return f"**{text}** {'better' if verdict(name, difference) > 0 else 'worse'}" if verdict(name, difference) else text


def costs(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield the table of CPU time."""
    yield from COSTS
    yield ""
    yield "| task | parameters | arm | selection | training | training / LoRA's | both / LoRA's |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for result in results:
        for group in (group for group in result.groups if group.train_on == "all"):
            lora = seconds(group, "lora")
            for arm in group.arms:
                training = seconds(group, arm)
                spent = [r["cpu"] for r in result.selections if (r["arm"], r["rank"]) == (arm, group.rank)]
                chosen = statistics.median(spent) if spent else 0.0
                yield (
                    f"| {result.name} | {group.num_trainable:,} | {NAMES[arm]} | {chosen:.1f} s | {training:.1f} s | "
                    f"{training / lora:.2f} | {(training + chosen) / lora:.2f} |"
                )


def seconds(group: Group, arm: str) -> float:
    """Return the median CPU time of an arm's trainings, those of the grid included."""
    return statistics.median(float(record["cpu"]) for record in group.of(arm))


def how_made(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield settings, sizes, versions and what was cut."""
    yield "| task | base | rows | steps x batch | validation rows | evaluation examples | texts |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for result in results:
        sizes = result.base["sizes"]
        examples = ", ".join(f"{count} {kind}" for kind, count in sorted(sizes["items"].items()))
        facts = f" ({sizes['facts']} facts)" if sizes["facts"] < sizes["rows"] else ""
        yield (
            f"| {result.name} | {sizes['parameters']:,} parameters | {sizes['rows']}{facts} | {sizes['steps']} x "
            f"{sizes['batch_size']} | {sizes['validation']} | {examples} | {sizes['texts']} |"
        )
    yield ""
    yield versions()
    yield from ["", *CUTS]
    missing = [name for name in TASKS if name not in {result.name for result in results}]
    if missing:
        yield f"- Not finished when this page was made: {', '.join(missing)}. The command goes on where it stopped."
