"""Writes docs/evidence-beacons.md from what is finished: verdicts and tables. No number is typed by hand."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.beacons_evidence.arms import PLAIN, RATES, WEIGHTINGS, Arm, arms
from benchmarks.beacons_evidence.picture import draw_changes
from benchmarks.beacons_evidence.texts import INTRO, LIMITS, RULES, TITLES
from benchmarks.selection_evidence.results import GRID_SEED, metric_of, shown, verdict
from knowtune.common.files import whole
from knowtune.common.statistics import mean_interval

LEARNED, LOST, PUSHED = "generalisation", "forgotten", "pushed_away"
SHOWN = (LEARNED, "reliability", LOST, "text_drift", PUSHED, "pushed_by")
JUDGED = (LEARNED, LOST, PUSHED)
Records = Sequence[dict[str, Any]]
Changes = dict[Arm, dict[str, dict[str, Any]]]


def write_page(work: Path, docs: Path) -> None:
    """Write the page."""
    tasks = {name: found for name in RATES if (found := read(work / f"{name}.jsonl"))}
    if not any(groups(found) for found in tasks.values()):
        raise SystemExit(f"{work}: no comparison is finished yet; three seeds are needed")
    titled = {f"{name}, {100 * rate:.0f} % wrong": found for (name, rate), found in changes(tasks).items()}
    draw_changes(titled, JUDGED, docs / "images" / "evidence-beacons.svg")
    with whole(docs / "evidence-beacons.md") as part:
        part.write_text("\n".join(lines(tasks)).rstrip() + "\n", encoding="utf-8")


def read(path: Path) -> list[dict[str, Any]]:
    """Read the pieces of the last settings; a line that was cut short is left out."""
    found = []
    for line in path.read_text().split("\n")[:-1] if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    bases = [record for record in found if record["what"] == "base"]
    return [record for record in found if bases and record["identity"] == bases[-1]["identity"]]


def groups(records: Records) -> dict[float, dict[Arm, dict[int, dict[str, Any]]]]:
    """Sort trainings by rate of wrong targets, arm and seed; arms with fewer than three seeds are left out."""
    found: dict[float, dict[Arm, dict[int, dict[str, Any]]]] = {}
    for record in records:
        if record["what"] == "training" and record["seed"] != GRID_SEED:
            arm = Arm(record["method"], record["filter"], record["weighting"])
            found.setdefault(record["wrong"], {}).setdefault(arm, {})[record["seed"]] = record
    full = {
        rate: {arm: by_arm[arm] for arm in arms() if len(by_arm.get(arm, ())) > 2} for rate, by_arm in found.items()
    }
    return {rate: by_arm for rate, by_arm in sorted(full.items()) if by_arm}


def difference(one: dict[int, Any], other: dict[int, Any], metric: str) -> dict[str, Any] | None:
    """Give mean and interval of the differences by seed; None with fewer than three seeds in common."""
    seeds = sorted(set(one) & set(other))
    if len(seeds) < 3:
        return None
    return mean_interval([one[seed]["metrics"][metric] - other[seed]["metrics"][metric] for seed in seeds])


def lines(tasks: dict[str, Records]) -> Iterator[str]:
    """Yield the page."""
    yield from INTRO
    yield from ["", "## Verdicts", ""]
    yield from verdicts(tasks)
    for name, records in tasks.items():
        for rate, by_arm in groups(records).items():
            yield from ["", f"## {TITLES[name]}, {100 * rate:.0f} % wrong targets", ""]
            yield from table(records, by_arm)
    yield from ["", "## How it was made", ""]
    yield from made(tasks)
    yield from ["", "## What falls short", "", *LIMITS]


def changes(tasks: dict[str, Records]) -> dict[tuple[str, float], Changes]:
    """Give each arm's differences to plain training by the same method, by task and rate of wrong targets."""
    found: dict[tuple[str, float], Changes] = {}
    for name, records in tasks.items():
        for rate, by_arm in groups(records).items():
            for arm, own in by_arm.items():
                plain = by_arm.get(Arm(arm.method, *PLAIN), {})
                told = {metric: difference(own, plain, metric) for metric in JUDGED}
                if (arm.filter, arm.weighting) != PLAIN and all(told.values()):
                    found.setdefault((name, rate), {})[arm] = told  # type: ignore[assignment]
    return found


def verdicts(tasks: dict[str, Records]) -> Iterator[str]:
    """Yield one line for each filter and weighting: mean difference to plain training, and how often it is shown."""
    heads = [f"{metric}, {some} wrong targets" for metric in JUDGED for some in ("no", "some")]
    yield f"| against plain training | {' | '.join(heads)} |"
    yield "| --- " * (1 + len(heads)) + "|"
    every = changes(tasks)
    for name in dict.fromkeys(arm.name for arm in arms() if (arm.filter, arm.weighting) != PLAIN):
        cells = []
        for metric in JUDGED:
            for damaged in (False, True):
                own = [
                    told[metric]
                    for (_, rate), by_arm in every.items()
                    for arm, told in by_arm.items()
                    if arm.name == name and (rate > 0) == damaged
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
    heads = [f"{name} {'↑' if metric_of(name).higher_is_better else '↓'}" for name in SHOWN]
    yield f"| method | rows and weights | seeds | wrong rows dropped | {' | '.join(heads)} |"
    yield "| --- " * (4 + len(heads)) + "|"
    base = next(record for record in records if record["what"] == "base")["metrics"]
    yield f"| base | – | – | – | {' | '.join(shown(name, base[name], None) for name in SHOWN)} |"
    for arm, own in by_arm.items():
        wrong = [r["wrong_dropped"] / r["num_wrong"] for r in own.values() if r["num_wrong"]]
        gone = f"{sum(wrong) / len(wrong):.0%}" if wrong else "–"
        cells = []
        for name in SHOWN:
            found = mean_interval([record["metrics"][name] for record in own.values()])
            text = shown(name, found["mean"], found["half_width"])  # type: ignore[arg-type]
            against = difference(own, by_arm.get(Arm(arm.method, *PLAIN), {}), name)
            better = verdict(name, against) if against else 0
            cells.append(f"**{text}** {'better' if better > 0 else 'worse'}" if better else text)
        yield f"| {arm.method} | {arm.name} | {len(own)} | {gone} | {' | '.join(cells)} |"


def made(tasks: dict[str, Records]) -> Iterator[str]:
    """Yield settings, sizes and versions."""
    for name, records in tasks.items():
        sizes = next(record for record in records if record["what"] == "base")["sizes"]
        rates = {r["method"]: r["learning_rate"] for r in records if r["what"] == "training" and r["seed"] != GRID_SEED}
        items = ", ".join(f"{count} {kind}" for kind, count in sorted(sizes["items"].items()))
        chosen = ", ".join(f"{method} {rate:g}" for method, rate in rates.items())
        yield f"- {name}: {sizes['rows']} rows, {sizes['steps']} steps of 16, {items} items; learning rates {chosen}."
    options = "; ".join(f"*{name}* {json.dumps(value)}" for name, value in WEIGHTINGS.items() if value)
    yield f"- Weights: {options}."
    names = ("torch", "transformers", "peft", "numpy", "scipy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    yield f"- Python {platform.python_version()}, {versions}; CPU, float32, one thread a process."
    missing = [name for name in RATES if name not in tasks or not groups(tasks[name])]
    if missing:
        yield f"- Not finished when this page was made: {', '.join(missing)}. The command goes on where it stopped."
