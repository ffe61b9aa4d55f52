"""Writes docs/evidence-beacons.md from what is finished: verdicts and tables. No number is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.beacons_evidence.arms import RATES, WEIGHTINGS
from benchmarks.beacons_evidence.figures import draw_changes
from benchmarks.beacons_evidence.results import (
    AT,
    LEARNED,
    LOST,
    PLAIN_NAME,
    PUSHED,
    Group,
    TaskResults,
    arm_names,
    read_results,
)
from benchmarks.beacons_evidence.texts import EQUAL, HEADLINES, INTRO, LIMITS, LOWER, NEAR, RULES, TITLES
from benchmarks.evidence import markdown
from benchmarks.evidence.claims import split_learned, tally
from benchmarks.evidence.differences import Difference
from benchmarks.evidence.numbers import format_metric, metric_heads, versions
from knowtune.common.statistics import mean_interval

SHOWN = (LEARNED, "reliability", PUSHED, "pushed_by", LOST, "text_drift")
UNEQUAL = (LOST, "text_drift")  # of forgetting: at one rate arms have learned differently, so no verdict
Find = Callable[[Group, str], Difference]
KINDS: dict[str, Find] = {  # what verdicts are about, against plain training of the same method
    "learning": lambda group, arm: group.comparison.difference(arm, PLAIN_NAME, LEARNED),
    "forgetting at equal learning": lambda group, arm: group.comparison.at_equal_learning(arm, PLAIN_NAME),
    "pushed away": lambda group, arm: group.comparison.difference(arm, PLAIN_NAME, PUSHED),
}


def write_page(work: Path, docs: Path) -> None:
    """Write the page."""
    results = read_results(work)
    if not results:
        raise SystemExit(f"{work}: no comparison is finished yet; three seeds are needed")
    draw_changes(counted(results), KINDS, docs / "images" / "evidence-beacons.svg")
    markdown.write_page(docs / "evidence-beacons.md", lines(results))


def counted(results: Sequence[TaskResults]) -> list[Group]:
    """List the groups whose task some arm learns."""
    groups = [group for result in results for group in result.groups]
    learned, _ = split_learned(group.comparison for group in groups)
    return [group for group in groups if group.comparison in learned]


def lines(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield the page."""
    groups = counted(results)
    yield from INTRO
    yield from ["", "## In short", ""]
    yield from headlines(groups)
    yield from ["", "## Verdicts", ""]
    yield from verdicts(groups)
    yield from ["", *RULES, "", "![Differences by seed](images/evidence-beacons.svg)", ""]
    yield from ["", "## Forgetting at equal learning", "", *EQUAL, ""]
    yield from equal_learning(groups)
    yield from ["", "## A lower learning rate instead", "", *LOWER, ""]
    yield from lower_rates(groups)
    for result in results:
        for wrong in dict.fromkeys(group.wrong for group in result.groups):
            yield from ["", f"## {TITLES[result.name]}, {100 * wrong:.0f} % wrong targets", ""]
            yield from table(result, [group for group in result.groups if group.wrong == wrong])
    yield from ["", "## How it was made", ""]
    yield from how_made(results)
    yield from ["", "## What falls short", "", *LIMITS]


def having(groups: Sequence[Group], arm: str) -> list[Group]:
    """List the groups that an arm is in."""
    return [group for group in groups if arm in group.arms]


def headlines(groups: Sequence[Group]) -> Iterator[str]:
    """Yield a sentence for each of the arms most asked for."""
    for arm in HEADLINES:
        parts = []
        for kind, find in KINDS.items():
            counts = tally(find(group, arm) for group in having(groups, arm))
            parts.append(f"{kind} {counts.counts}{f' ({counts.word})' if kind.startswith('forgetting') else ''}")
        yield f"- **{arm}**: {'; '.join(parts)}."


def verdicts(groups: Sequence[Group]) -> Iterator[str]:
    """Yield one line for each filter and weighting: mean difference to plain training, and how often it is shown."""
    heads = [f"{kind}, {some} wrong targets" for kind in KINDS for some in ("no", "some")]
    yield f"| against plain training | {' | '.join(heads)} |"
    yield "| --- " * (1 + len(heads)) + "|"
    for arm in arm_names():
        cells = []
        for find in KINDS.values():
            for noisy in (False, True):
                own = [find(group, arm) for group in having(groups, arm) if (group.wrong > 0) == noisy]
                means = [each.mean for each in own if each.mean is not None]
                mean = f"{100 * sum(means) / len(means):+.1f} " if means else ""
                cells.append(f"{mean}{tally(own).short}")
        yield f"| {arm} | {' | '.join(cells)} |"


def equal_learning(groups: Sequence[Group]) -> Iterator[str]:
    """Yield a line for every arm and group whose learning plain training reaches at other rates."""
    yield "| against plain training | comparison | seeds | at generalisation of | forgotten ↓ | text_drift ↓ |"
    yield "| --- " * 6 + "|"
    for arm in arm_names():
        for group in having(groups, arm):
            difference = group.comparison.at_equal_learning(arm, PLAIN_NAME)
            if not difference.lacks:
                drift = group.comparison.at_equal_learning(arm, PLAIN_NAME, "text_drift")
                yield (
                    f"| {arm} | {group.comparison.name} | {len(difference.seeds)} | "
                    f"{markdown.levels_text(difference, LEARNED)} | {markdown.difference_text(difference)} | "
                    f"{markdown.difference_text(drift)} |"
                )


def lower_rates(groups: Sequence[Group]) -> Iterator[str]:
    """Yield what weighing near rows more changes, and what a lower learning rate does, against plain training."""
    shown = (LEARNED, *UNEQUAL)
    yield f"| against plain training | comparison | seeds | {' | '.join(metric_heads(shown))} |"
    yield "| --- " * (3 + len(shown)) + "|"
    for group in groups:
        lower = [
            arm
            for arm in group.at_other_rates
            if arm.startswith(PLAIN_NAME + AT)
            and (group.comparison.rate(arm) or 0) < (group.comparison.rate(PLAIN_NAME) or 0)
        ]
        for arm in (NEAR, *lower) if lower else ():
            differences = [group.comparison.difference(arm, PLAIN_NAME, name) for name in shown]
            cells = [
                "–" if each.mean is None else format_metric(each.metric, each.mean, each.half_width, sign=True)
                for each in differences
            ]
            yield f"| {arm} | {group.comparison.name} | {len(differences[0].seeds)} | {' | '.join(cells)} |"


def table(result: TaskResults, groups: Sequence[Group]) -> Iterator[str]:
    """Yield a table of arms: what wrong rows went, means, and where learning differs from plain training's."""
    heads = metric_heads(SHOWN)
    yield f"| method | rows and weights | seeds | wrong rows dropped | {' | '.join(heads)} |"
    yield "| --- " * (4 + len(heads)) + "|"
    base = result.base["metrics"]
    yield f"| base | – | – | – | {' | '.join(format_metric(name, base[name], None) for name in SHOWN)} |"
    for group in groups:
        for arm in (*group.arms, *group.at_other_rates):
            run = list(group.comparison.run(arm).values())
            share = group.dropped[arm]
            gone = "–" if share is None else f"{share:.0%}"
            cells = []
            for name in SHOWN:
                mean = mean_interval([metrics[name] for metrics in run])
                text = format_metric(name, mean["mean"], mean["half_width"])  # type: ignore[arg-type]
                against = (
                    0 if name in UNEQUAL or AT in arm else group.comparison.difference(arm, PLAIN_NAME, name).verdict
                )
                cells.append(f"**{text}** {'better' if against > 0 else 'worse'}" if against else text)
            yield f"| {group.method} | {arm} | {len(run)} | {gone} | {' | '.join(cells)} |"


def how_made(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield settings, sizes, hours and versions."""
    for result in results:
        sizes = result.base["sizes"]
        examples = ", ".join(f"{count} {kind}" for kind, count in sorted(sizes["items"].items()))
        chosen = ", ".join(f"{method} {rate:g}" for method, rate in result.rates.items())
        size = f"{sizes['rows']} rows, {sizes['steps']} steps of 16, {examples} examples"
        done = f"{result.num_trainings} trainings in {result.hours:.1f} CPU hours"
        yield f"- {result.name}: {size}; learning rates {chosen}; {done}."
    options = "; ".join(f"*{name}* {json.dumps(value)}" for name, value in WEIGHTINGS.items() if value)
    yield f"- Weights: {options}."
    yield "- Learning rates are chosen with seed 100; seeds 0 to 4 are the results, label noise of the same seed."
    yield f"- {versions()}"
    missing = [name for name in RATES if name not in {result.name for result in results}]
    if missing:
        yield f"- Not finished when this page was made: {', '.join(missing)}. The command goes on where it stopped."
