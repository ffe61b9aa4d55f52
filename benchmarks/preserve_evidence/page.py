"""Writes docs/evidence-preserve.md from what is finished: verdicts and tables. No number is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.evidence import markdown
from benchmarks.evidence.claims import split_learned, tally
from benchmarks.evidence.comparisons import MIN_SEEDS, Comparison
from benchmarks.evidence.numbers import format_metric, metric_heads, versions
from benchmarks.evidence.tables import claims_table, equal_learning_table, mean_cells
from benchmarks.preserve_evidence.arms import HIGHER, METHODS, PARTS, RATES, WHOLE, WITHOUT, Averaged, arms_of
from benchmarks.preserve_evidence.correlations import correlation_table
from benchmarks.preserve_evidence.figures import draw_frontier
from benchmarks.preserve_evidence.goals import GOALS, WITHOUT_DATA, beside_best, reached_at
from benchmarks.preserve_evidence.results import DRIFT, LEARNED, LOST, PLAIN_LORA, TaskResults, read_results
from benchmarks.preserve_evidence.shortcomings import shortcomings
from benchmarks.preserve_evidence.texts import (
    AVERAGES,
    CLAIMS,
    COSTS,
    EQUAL,
    INTRO,
    LIMITS,
    MASKS,
    NAMES,
    PREDICTS,
    RIVALS,
    RULES,
    SWITCH,
    TARGETS,
    TITLES,
)
from knowtune.common.statistics import mean_interval

SHOWN = (LEARNED, "reliability", LOST, DRIFT, "kl_to_base", "kl_to_base_prompts")
PARTS_CLAIMS, RIVAL_CLAIMS, MASK_CLAIMS = (CLAIMS[kind] for kind in ("parts", "rivals", "masks"))


def write_page(work: Path, docs: Path) -> None:
    """Write the page."""
    results = read_results(work)
    if not results:
        raise SystemExit(f"{work}: no comparison is finished yet; three seeds are needed")
    draw_frontier(results, docs / "images" / "evidence-preserve.svg")
    markdown.write_page(docs / "evidence-preserve.md", lines(results))


def comparisons(results: Sequence[TaskResults], methods: Iterable[str] = METHODS) -> list[Comparison]:
    """List the comparisons of each task's methods, less those that no arm learns."""
    every = [of for result in results for method in methods if (of := result.of_method(method)) is not None]
    return split_learned(every)[0]


def lines(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield the page."""
    every = comparisons(results)
    yield from INTRO
    yield from how_finished(results)
    yield from ["", "## Learned and kept", "", *TARGETS, ""]
    yield from learned_and_kept(results)
    yield from ["![Learned against forgotten](images/evidence-preserve.svg)", ""]
    yield from ["## Each part alone, and together", "", *RULES, ""]
    yield from claims_table(every, PARTS_CLAIMS)
    yield from ["", "## Which part would you switch off?", "", *SWITCH, ""]
    yield from switched_off(every)
    yield from ["", "## The plainest rivals", "", *RIVALS, ""]
    yield from claims_table(every, RIVAL_CLAIMS)
    yield from ["", "## The average of several trainings", "", *AVERAGES, ""]
    yield from averages(results)
    yield from ["", "## Protected masks", "", *MASKS, ""]
    yield from claims_table(every, MASK_CLAIMS)
    yield from ["", "## What does the divergence predict?", "", *PREDICTS, ""]
    yield from correlation_table(results)
    yield from ["", "## Costs", "", *COSTS, ""]
    yield from costs(results)
    yield from ["", "## Forgetting at equal learning, one by one", "", *EQUAL, ""]
    pairs = list(dict.fromkeys((claim.one, claim.other) for of in CLAIMS.values() for claim in of))
    yield from equal_learning_table(every, pairs, NAMES, [LOST, DRIFT])
    for result in results:
        yield from ["", f"## {TITLES[result.name]}", ""]
        yield from table(result)
    yield from ["", "## How it was made", ""]
    yield from how_made(results)
    for name, of in HIGHER.items():
        yield f"- Plain training on {name} also at {json.dumps(of)}; its mixtures are of the rate before."
    yield from ["", "## What falls short", "", *LIMITS]
    yield from shortcomings(results)


def how_finished(results: Sequence[TaskResults], tasks: Iterable[str] = PARTS) -> Iterator[str]:
    """Yield what a page rests on, and what is not finished."""
    yield ""
    for name in tasks:
        result = next((each for each in results if each.name == name), None)
        if result is None:
            yield f"- **{name}**: not finished when this page was made."
            continue
        seeds = {arm: len(result.comparison.run(arm)) for arm in result.arms}
        done = ", ".join(f"{arm} ({num})" for arm, num in seeds.items())
        text = f"- **{name}**, arms with at least three seeds, and how many: {done}."
        yield text + (f" Not finished: {', '.join(result.unfinished)}." if result.unfinished else "")


def learned_and_kept(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield a table for each task, under what is aimed at; see `targets`."""
    for result in results:
        yield from [f"### {TITLES[result.name]}", ""]
        yield from [f"- Aimed at: {GOALS[result.name]}.", f"- Without data: {WITHOUT_DATA[result.name]}."]
        yield from [*plain_rates(result), ""]
        yield from targets(result)
        yield ""


def plain_rates(result: TaskResults) -> Iterator[str]:
    """Yield what plain LoRA learns at its chosen rate and at its best one."""
    if PLAIN_LORA in result.arms:
        chosen, best = (
            f"{mean_cells(comparison, PLAIN_LORA, (LEARNED,))[0]} % at {comparison.rate(PLAIN_LORA):g}"
            for comparison in (result.comparison, beside_best(result.comparison))
        )
        most = ", its best by the means, too" if best == chosen else f"; at its best by the means {best}"
        yield f"- Plain LoRA learns {chosen}, the rate that seed 100 chose{most}."


def targets(result: TaskResults) -> Iterator[str]:
    """Yield a line for each arm at its chosen rate: what it learns beside plain LoRA, what it loses."""
    comparison = result.comparison
    beside = [comparison, beside_best(comparison)]
    yield f"| arm | seeds | rate | {LEARNED} | − plain LoRA's | − its best | {LOST} ↓ | {DRIFT} ↓ | reached |"
    yield "| --- " * 9 + "|"
    for arm in result.arms:
        learned, *lost = mean_cells(comparison, arm, (LEARNED, LOST, DRIFT))
        against = [markdown.difference_text(each.difference(arm, PLAIN_LORA, LEARNED)) for each in beside]
        texts = ["–"] * len(beside) if arm == PLAIN_LORA else against
        cells = [arm, str(len(comparison.run(arm))), f"{comparison.rate(arm):g}", learned, *texts, *lost]
        at, chosen = reached_at(result, arm), comparison.rate(arm)
        others = f"at {', '.join(f'{rate:g}' for rate in at)}" if at else "no"
        cells.append("**yes**" if chosen in at else others)
        yield f"| {' | '.join(cells)} |"


def switched_off(every: Sequence[Comparison]) -> Iterator[str]:
    """Yield what changes when a part is left out of all three: verdicts, and means over comparisons."""
    heads = (f"{LEARNED} without it", "forgotten without it, at equal learning", "comparisons")
    yield f"| switched off | {' | '.join(heads)} |"
    yield "| --- " * 4 + "|"
    gains = {}
    for part, without in WITHOUT.items():
        learned = [each.difference(without, WHOLE, LEARNED) for each in every]
        lost = [each.at_equal_learning(without, WHOLE) for each in every]
        cells = []
        for differences in (learned, lost):
            means = [each.mean for each in differences if each.mean is not None]
            points = f"{100 * sum(means) / len(means):+.1f} points on average, " if means else ""
            cells.append(f"{points}{tally(differences)}")
        measured = sum(each.mean is not None for each in lost)
        gains[part] = sum(each.mean or 0 for each in learned)
        yield f"| {part} | {' | '.join(cells)} | {measured} |"
    part = max(gains, key=gains.__getitem__)
    yield from ["", f"So the first to switch off, where learning matters most, is {part}: without it most is learned."]
    yield "What a part keeps at equal learning is shown only where the third column has a verdict."


def averages(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield a line for each rate of each arm that averages trainings: what it adds to the first of them alone."""
    metrics = (LEARNED, LOST, DRIFT)
    yield f"| task | arm | rate | seeds | {LEARNED} | {LOST} ↓ | {DRIFT} ↓ |"
    yield "| --- " * 7 + "|"
    for result in results:
        for arm in filter(lambda arm: isinstance(arm, Averaged), arms_of(result.name).values()):
            one, rates = arm.alone.name, {rate for own in result.comparison.seeds(arm.name).values() for rate in own}
            for rate in sorted(rates):
                comparison = replace(result.comparison, chosen={arm.name: rate, one: rate})
                found = [comparison.difference(arm.name, one, metric) for metric in metrics]
                if len(found[0].seeds) >= MIN_SEEDS:
                    texts = [markdown.difference_text(each) for each in found]
                    yield f"| {result.name} | {arm.name} | {rate:g} | {len(found[0].seeds)} | {' | '.join(texts)} |"


def costs(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield the median cost of an arm's trainings, beside plain training's by the same method on the same machine."""
    yield "| task | arm | CPU seconds of training | × plain | before it | peak memory, MB | × plain | machine |"
    yield "| --- " * 8 + "|"
    for result in results:
        for arm in result.arms:
            machine = result.machine(arm)
            if machine is None:  # a mixture costs no training
                continue
            cells = []
            for key, scale, digits in (("cpu", 1.0, 1), ("memory", 1e-6, 0)):
                own, ratio = result.median(arm, key, machine), result.times_plain(arm, key)
                assert own is not None
                cells += [f"{own * scale:.{digits}f}", f"{ratio:.2f}" if ratio else "–"]
            cells.insert(2, f"{result.median(arm, 'ready', machine):.1f}")
            yield f"| {result.name} | {arm} | {' | '.join(cells)} | {machine} |"


def table(result: TaskResults) -> Iterator[str]:
    """Yield a line for each arm and rate with at least one seed: means with intervals."""
    heads = metric_heads(SHOWN)
    yield f"| arm | rate | seeds | {' | '.join(heads)} |"
    yield "| --- " * (3 + len(heads)) + "|"
    base = result.base["metrics"]
    yield f"| base | – | – | {' | '.join(format_metric(name, base[name], None) for name in SHOWN)} |"
    for arm in result.arms:
        seeds = result.comparison.seeds(arm)
        for rate in sorted({rate for rates in seeds.values() for rate in rates}):
            own = [rates[rate] for rates in seeds.values() if rate in rates]
            cells = []
            for name in SHOWN:
                mean = mean_interval([metrics[name] for metrics in own])
                cells.append(format_metric(name, mean["mean"], mean["half_width"]))  # type: ignore[arg-type]
            chosen = " (chosen)" if rate == result.comparison.rate(arm) else ""
            yield f"| {arm} | {rate:g}{chosen} | {len(own)} | {' | '.join(cells)} |"


def how_made(results: Sequence[TaskResults], rates: Mapping[str, Any] = RATES) -> Iterator[str]:
    """Yield settings, sizes, hours and versions."""
    for result in results:
        sizes = result.base["sizes"]
        examples = ", ".join(f"{count} {kind}" for kind, count in sorted(sizes["items"].items()))
        kept = ", ".join(f"{count} of {source}" for source, count in sorted(sizes["kept"].items()))
        yield (
            f"- {result.name}: {sizes['rows']} rows, {sizes['steps']} steps of {sizes['batch_size']}; measured on "
            f"{examples} examples and {sizes['texts']} texts, the base has {result.base['metrics']['known']:.1%} of "
            f"locality right; may be replayed: {kept}; {len(result.trainings)} trainings in {result.hours:.1f} CPU "
            f"hours."
        )
    for name, of in rates.items():
        yield f"- Learning rates, {name}: {json.dumps(of)}; what preserves at two, mostly the last."
    yield "- Rates are chosen with seed 100, an alpha by the rule of `interpolate`; seeds 0 to 4 are the results."
    yield f"- {versions()}"
