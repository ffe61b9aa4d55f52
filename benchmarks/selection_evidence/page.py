"""Writes docs/evidence.md from what is finished: verdicts, tables, costs, figures. No number is typed by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.evidence import markdown, tables
from benchmarks.evidence.claims import split_learned, takes_part
from benchmarks.evidence.comparisons import Comparison
from benchmarks.evidence.numbers import format_metric, metric_heads, versions
from benchmarks.selection_evidence.arms import EVERY, NAMES
from benchmarks.selection_evidence.figures import draw_differences, draw_plane
from benchmarks.selection_evidence.masks import mask_tables
from benchmarks.selection_evidence.results import LOST, TaskResults, read_results
from benchmarks.selection_evidence.texts import (
    CLAIMS,
    COSTS,
    CUTS,
    EQUAL,
    HEADLINES,
    LIMITS,
    PAIRS,
    PLANE,
    RULES,
    TASKS,
    TRAINED,
    intro,
)


def write_page(work: Path, docs: Path) -> None:
    """Write the page and its figures."""
    results = read_results(work, list(TASKS))
    if not results:
        raise SystemExit(f"{work}: no comparison is finished yet")
    (docs / "images").mkdir(parents=True, exist_ok=True)
    draw_plane(results, docs / "images" / "evidence-plane.svg")
    draw_differences(counted(results)[0], docs / "images" / "evidence-differences.svg")
    markdown.write_page(docs / "evidence.md", lines(results, work))


def counted(results: Sequence[TaskResults]) -> tuple[list[Comparison], list[Comparison]]:
    """Part all comparisons into those that verdicts count and those that no arm learns."""
    return split_learned(group.comparison for result in results for group in result.groups)


def lines(results: Sequence[TaskResults], work: Path) -> Iterator[str]:
    """Yield the page."""
    learned, at_chance = counted(results)
    yield from intro()
    yield from ["", "## In short", ""]
    for pair in HEADLINES:
        yield from tables.headline(learned, *pair, NAMES)
    yield from selection_costs(results)
    yield from ["", "## Verdicts", ""]
    yield from tables.claims_table(learned, CLAIMS)
    yield from ["", *RULES]
    if at_chance:
        yield from ["", f"In no count, because no arm learns them: {'; '.join(each.name for each in at_chance)}."]
    yield from ["", "![Learned against lost](images/evidence-plane.svg)", "", *PLANE]
    yield from ["", "![Differences by seed](images/evidence-differences.svg)", ""]
    yield from ["", "## Forgetting at equal learning", "", *EQUAL, ""]
    yield from tables.equal_learning_table(learned, PAIRS, NAMES, LOST)
    yield from ["", "## What is trained", "", *TRAINED, ""]
    yield from tables.trained_table(learned, HEADLINES, NAMES)
    if absent := [NAMES[arm] for arm in EVERY if not any(takes_part(each, arm) for each in learned)]:
        yield from ["", f"Not trained at all yet: {'; '.join(absent)}."]
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


def selection_costs(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield what choosing costs beside a training."""
    for arm in ("fish", "ird"):
        shares = [
            statistics.median(float(r["cpu"]) for r in result.selections if (r["arm"], r["rank"]) == (arm, group.rank))
            / group.seconds("lora")
            for result in results
            for group in result.groups
            if group.train_on == "all"
        ]
        yield (
            f"- **{NAMES[arm]}'s selection** takes {min(shares):.0%} to {max(shares):.0%} of the time of one of LoRA's "
            "(short) trainings, on top of its own."
        )


def task_tables(result: TaskResults) -> Iterator[str]:
    """Yield a table of arms and one of what they learn beside each other, for every comparison of a task."""
    heads = metric_heads(result.metrics)
    base = " | ".join(format_metric(name, value, None) for name, value in result.base["metrics"].items())
    for group in result.groups:
        comparison = group.comparison
        rates = ", ".join(f"{rate:g}" for rate in group.learning_rates)
        tried = f"learning rates {rates}" if rates else "learning rates as chosen for all rows"
        yield from [f"### {comparison.name}", "", f"LoRA's rank {group.rank}; {tried}.", ""]
        yield f"| arm | learning rate | seeds | {' | '.join(heads)} |"
        yield "| --- " * (3 + len(heads)) + "|"
        yield f"| base | – | – | {base} |"
        for arm in group.arms:
            cells = " | ".join(tables.mean_cells(comparison, arm, result.metrics))
            rate = f"{comparison.rate(arm):g}{' (edge)' if group.at_edge(arm) else ''}"
            yield f"| {NAMES[arm]} | {rate} | {len(comparison.run(arm))} | {cells} |"
        if missing := [arm for arm in EVERY if arm in comparison.trainings and arm not in group.arms]:
            named = ", ".join(f"{NAMES[arm]} at {comparison.rate(arm):g}" for arm in missing)
            yield from ["", f"Not trained with three seeds at the chosen rate: {named}."]
        yield ""
        yield from tables.differences_table(comparison, PAIRS, NAMES, result.learned_metrics)
        yield ""


def costs(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield the table of CPU time."""
    yield from COSTS
    yield ""
    yield "| task | parameters | arm | selection | training | training / LoRA's | both / LoRA's |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for result in results:
        for group in (group for group in result.groups if group.train_on == "all"):
            lora = group.seconds("lora")
            for arm in (arm for arm in EVERY if takes_part(group.comparison, arm)):
                training = group.seconds(arm)
                spent = [r["cpu"] for r in result.selections if (r["arm"], r["rank"]) == (arm, group.rank)]
                chosen = statistics.median(spent) if spent else 0.0
                yield (
                    f"| {result.name} | {group.num_trainable:,} | {NAMES[arm]} | {chosen:.1f} s | {training:.1f} s | "
                    f"{training / lora:.2f} | {(training + chosen) / lora:.2f} |"
                )


def how_made(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield settings, sizes, versions and what was cut."""
    heads = (
        "base",
        "rows",
        "steps x batch",
        "validation rows",
        "evaluation examples",
        "texts",
        "trainings",
        "CPU hours",
    )
    yield f"| task | {' | '.join(heads)} |"
    yield "| --- " * (1 + len(heads)) + "|"
    for result in results:
        sizes = result.base["sizes"]
        examples = ", ".join(f"{count} {kind}" for kind, count in sorted(sizes["items"].items()))
        facts = f" ({sizes['facts']} facts)" if sizes["facts"] < sizes["rows"] else ""
        yield (
            f"| {result.name} | {sizes['parameters']:,} parameters | {sizes['rows']}{facts} | {sizes['steps']} x "
            f"{sizes['batch_size']} | {sizes['validation']} | {examples} | {sizes['texts']} | "
            f"{sum(len(group.records) for group in result.groups)} | {result.hours:.1f} |"
        )
    yield ""
    yield versions()
    yield from ["", *CUTS]
    missing = [name for name in TASKS if name not in {result.name for result in results}]
    if missing:
        yield f"- Not finished when this page was made: {', '.join(missing)}. The command goes on where it stopped."
