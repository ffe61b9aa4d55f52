"""Writes docs/evidence-beacons.md from what is finished: verdicts and tables. No number is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.beacons_evidence.arms import PLAIN, RATES, WEIGHTINGS, Arm, arms
from benchmarks.beacons_evidence.figures import draw_changes
from benchmarks.beacons_evidence.texts import INTRO, LIMITS, RULES, TITLES
from benchmarks.evidence import markdown
from benchmarks.evidence.numbers import (
    GRID_SEED,
    MIN_SEEDS,
    difference_by_seed,
    format_metric,
    metric_heads,
    verdict,
    versions,
)
from benchmarks.evidence.store import read_latest
from knowtune.common.statistics import mean_interval

LEARNED, LOST, PUSHED = "generalisation", "forgotten", "pushed_away"
SHOWN = (LEARNED, "reliability", LOST, "text_drift", PUSHED, "pushed_by")
JUDGED = (LEARNED, LOST, PUSHED)
Records = Sequence[dict[str, Any]]
Changes = dict[Arm, dict[str, dict[str, Any]]]


def write_page(work: Path, docs: Path) -> None:
    """Write the page."""
    tasks = {name: pieces for name in RATES if (pieces := read_latest(work / f"{name}.jsonl")[1])}
    if not any(groups(pieces) for pieces in tasks.values()):
        raise SystemExit(f"{work}: no comparison is finished yet; three seeds are needed")
    titled = {f"{name}, {100 * rate:.0f} % wrong": by_arm for (name, rate), by_arm in changes(tasks).items()}
    draw_changes(titled, JUDGED, docs / "images" / "evidence-beacons.svg")
    markdown.write_page(docs / "evidence-beacons.md", lines(tasks))


def groups(records: Records) -> dict[float, dict[Arm, dict[int, dict[str, Any]]]]:
    """Sort trainings by rate of wrong targets, arm and seed; arms with fewer than three seeds are left out."""
    by_rate: dict[float, dict[Arm, dict[int, dict[str, Any]]]] = {}
    for record in records:
        if record["what"] == "training" and record["seed"] != GRID_SEED:
            arm = Arm(record["method"], record["filter"], record["weighting"])
            by_rate.setdefault(record["wrong"], {}).setdefault(arm, {})[record["seed"]] = record
    full = {
        rate: {arm: by_arm[arm] for arm in arms() if len(by_arm.get(arm, ())) >= MIN_SEEDS}
        for rate, by_arm in by_rate.items()
    }
    return {rate: by_arm for rate, by_arm in sorted(full.items()) if by_arm}


def lines(tasks: Mapping[str, Records]) -> Iterator[str]:
    """Yield the page."""
    yield from INTRO
    yield from ["", "## Verdicts", ""]
    yield from verdicts(tasks)
    for name, records in tasks.items():
        for rate, by_arm in groups(records).items():
            yield from ["", f"## {TITLES[name]}, {100 * rate:.0f} % wrong targets", ""]
            yield from table(records, by_arm)
    yield from ["", "## How it was made", ""]
    yield from how_made(tasks)
    yield from ["", "## What falls short", "", *LIMITS]


def changes(tasks: Mapping[str, Records]) -> dict[tuple[str, float], Changes]:
    """Return each arm's differences to plain training by the same method, by task and rate of wrong targets."""
    every: dict[tuple[str, float], Changes] = {}
    for name, records in tasks.items():
        for rate, by_arm in groups(records).items():
            for arm, own in by_arm.items():
                plain = by_arm.get(Arm(arm.method, *PLAIN), {})
                differences = {metric: difference_by_seed(own, plain, metric) for metric in JUDGED}
                if (arm.filter, arm.weighting) != PLAIN and all(differences.values()):
                    every.setdefault((name, rate), {})[arm] = differences  # type: ignore[assignment]
    return every


def verdicts(tasks: Mapping[str, Records]) -> Iterator[str]:
    """Yield one line for each filter and weighting: mean difference to plain training, and how often it is shown."""
    heads = [f"{metric}, {some} wrong targets" for metric in JUDGED for some in ("no", "some")]
    yield f"| against plain training | {' | '.join(heads)} |"
    yield "| --- " * (1 + len(heads)) + "|"
    every = changes(tasks)
    for name in dict.fromkeys(arm.name for arm in arms() if (arm.filter, arm.weighting) != PLAIN):
        cells = []
        for metric in JUDGED:
            for noisy in (False, True):
                own = [
                    differences[metric]
                    for (_, rate), by_arm in every.items()
                    for arm, differences in by_arm.items()
                    if arm.name == name and (rate > 0) == noisy
                ]
                counts = [sum(verdict(metric, one) == way for one in own) for way in (1, -1, 0)]
                mean = sum(one["mean"] for one in own) / max(1, len(own))
                cells.append(f"{100 * mean:+.1f} ({', '.join(map(str, counts))})" if own else "–")
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    yield from RULES
    yield from ["", "![Differences by seed](images/evidence-beacons.svg)", ""]


def table(records: Records, by_arm: dict[Arm, dict[int, dict[str, Any]]]) -> Iterator[str]:
    """Yield a table of arms: what wrong rows went, means, and the differences to plain training where shown."""
    heads = metric_heads(SHOWN)
    yield f"| method | rows and weights | seeds | wrong rows dropped | {' | '.join(heads)} |"
    yield "| --- " * (4 + len(heads)) + "|"
    base = next(record for record in records if record["what"] == "base")["metrics"]
    yield f"| base | – | – | – | {' | '.join(format_metric(name, base[name], None) for name in SHOWN)} |"
    for arm, own in by_arm.items():
        wrong = [r["wrong_dropped"] / r["num_wrong"] for r in own.values() if r["num_wrong"]]
        gone = f"{sum(wrong) / len(wrong):.0%}" if wrong else "–"
        cells = []
        for name in SHOWN:
            mean = mean_interval([record["metrics"][name] for record in own.values()])
            text = format_metric(name, mean["mean"], mean["half_width"])  # type: ignore[arg-type]
            against = difference_by_seed(own, by_arm.get(Arm(arm.method, *PLAIN), {}), name)
            better = verdict(name, against) if against else 0
            cells.append(f"**{text}** {'better' if better > 0 else 'worse'}" if better else text)
        yield f"| {arm.method} | {arm.name} | {len(own)} | {gone} | {' | '.join(cells)} |"


def how_made(tasks: Mapping[str, Records]) -> Iterator[str]:
    """Yield settings, sizes and versions."""
    for name, records in tasks.items():
        sizes = next(record for record in records if record["what"] == "base")["sizes"]
        rates = {r["method"]: r["learning_rate"] for r in records if r["what"] == "training" and r["seed"] != GRID_SEED}
        examples = ", ".join(f"{count} {kind}" for kind, count in sorted(sizes["items"].items()))
        chosen = ", ".join(f"{method} {rate:g}" for method, rate in rates.items())
        size = f"{sizes['rows']} rows, {sizes['steps']} steps of 16, {examples} examples"
        yield f"- {name}: {size}; learning rates {chosen}."
    options = "; ".join(f"*{name}* {json.dumps(value)}" for name, value in WEIGHTINGS.items() if value)
    yield f"- Weights: {options}."
    yield f"- {versions()}"
    missing = [name for name in RATES if name not in tasks or not groups(tasks[name])]
    if missing:
        yield f"- Not finished when this page was made: {', '.join(missing)}. The command goes on where it stopped."
