"""Section: the answer. Which model to ship and why, what it learned and what it lost.

The gate decides. Where there is none, the page says what the numbers alone can say, and how to set a gate up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knowtune.evaluation.compute_metrics import over_seeds
from knowtune.evaluation.leaderboard import Entry, metric_class
from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.section import Section
from knowtune.evaluation.report.sections.leaderboard import Column, columns_of

SHIP = "ship"
BOUND = 0.15  # of the example
TILES = 4  # numbers that are shown large
FACTS = ("generalisation", "forgotten")


def show(report: Report) -> Mapping[str, Any] | None:
    """Say what to ship, with the numbers of that model beside the base's and the champion's."""
    verdict, by_name = report.verdict, {entry.name: entry for entry in report.entries}
    run = verdict["judged"] if verdict else suggest(report)
    beside = {"base": report.entries[0], **_champion(verdict or {})}
    return {
        "verdict": verdict,
        "ships": verdict is not None and verdict["verdict"] == SHIP,
        "run": run,
        "plainly": _plainly(report, by_name[run], beside) if run in by_name else "",
        "folder": f"data/{'merged' if by_name[run].num_trainable is not None else 'mixed'}/{run}"
        if run in by_name
        else "",
        "about": by_name[run].about if run in by_name else "",
        "tiles": _tiles(report, by_name[run], beside) if run in by_name else [],
        "example": _example(report, run or "RUN"),
        "readings": [] if verdict else read(report),
        "broken": [check["text"] for check in (verdict or {}).get("checks", []) if not check["passed"]],
        "failed": [one for one in (verdict or {}).get("candidates", []) if not one["passed"] and one["run"] != run],
    }


def _champion(verdict: Mapping[str, Any]) -> dict[str, Entry]:
    """Give the champion as it was recorded, whatever a run of its name is now; nothing where there is none."""
    champion = verdict.get("champion")
    if not champion:
        return {}
    summary = over_seeds({str(champion["seed"]): champion.get("metrics", {})})
    return {"champion": Entry(champion["run"], f"version {champion['version']}", None, None, summary)}


def _plainly(report: Report, entry: Entry, beside: Mapping[str, Entry]) -> str:
    """Say what a model learned and lost in a sentence that needs no knowledge of the metrics; of facts alone."""
    models = {"": entry, **{who: one for who, one in beside.items() if set(FACTS) <= set(one.summary)}}
    if set(report.axes) != set(FACTS) or "base" not in models or not set(FACTS) <= set(entry.summary):
        return ""
    learned, lost = ({who: round(100 * one.summary[name]["mean"]) for who, one in models.items()} for name in FACTS)
    before = ", ".join(f"the {who}: {learned[who]}" for who in models if who)
    after = f" (the champion: {lost['champion']})" if "champion" in models else ""
    return (
        f"It answers {learned['']} of 100 new facts in wordings that it never saw ({before}), "
        f"and has lost {lost['']} of 100 facts that the base knew{after}."
    )


def _example(report: Report, run: str) -> str:
    """Write a section of params.yaml that sets a gate up."""
    lost, learned = report.axes
    bounds = ", ".join(f"{name}: {BOUND}" for name in (lost, *(one.name for one in report.sets)))
    return (
        f"promote:\n  run: {run}  # or the best by a rule: best: {{by: {learned}}}\n"
        f"  bounds: {{{bounds}}}  # no worse than this\n  rejects: {{planted: 0.1, unreviewed: 0.0}}"
    )


def suggest(report: Report) -> str | None:
    """Name the model with the largest learned minus lost; None where these cannot be subtracted."""
    lost, learned = report.axes
    both = [entry for entry in _tuned(report) if {lost, learned} <= set(entry.summary)]
    if not both or {metric_class(lost).unit, metric_class(learned).unit} != {"share"}:
        return None
    return max(both, key=lambda e: e.summary[learned]["mean"] - e.summary[lost]["mean"]).name


def read(report: Report) -> list[str]:
    """Say in sentences what the leaderboard shows where no gate decides."""
    lost, learned = report.axes
    both = [entry for entry in _tuned(report) if {lost, learned} <= set(entry.summary)]
    if not both:
        return []
    sign = 1 if metric_class(learned).higher_is_better else -1
    most = max(both, key=lambda entry: sign * entry.summary[learned]["mean"])
    least = min(both, key=lambda entry: entry.summary[lost]["mean"])
    return [
        f"Learned most: {most.name}, {learned} {most.cell(learned)}, with {lost} {most.cell(lost)}.",
        f"Lost least: {least.name}, {lost} {least.cell(lost)}, with {learned} {least.cell(learned)}.",
    ]


def _tuned(report: Report) -> list[Entry]:
    """Return the runs and mixtures."""
    return [entry for entry in report.entries[1:] if not entry.constant]


def _tiles(report: Report, entry: Entry, beside: Mapping[str, Entry]) -> list[dict[str, Any]]:
    """Give the numbers that matter most: what was learned, what was lost, then others in the leaderboard's order."""
    lost, learned = report.axes
    columns = {column.name: column for column in columns_of(report)}
    titles = {learned: "learned", lost: "lost"}
    names = [name for name in (learned, lost, *(one.name for one in report.sets), *columns) if name in columns]
    chosen = [name for name in dict.fromkeys(names) if name in entry.summary][:TILES]
    return [
        {
            "title": titles.get(name, name),
            "name": name,
            "value": columns[name].cell(entry)["text"],
            "unit": columns[name].unit,
            "about": columns[name].about,
            "beside": {who: _with_unit(columns[name], other) for who, other in beside.items() if name in other.summary},
        }
        for name in chosen
    ]


def _with_unit(column: Column, entry: Entry) -> str:
    """Write a model's number with its unit."""
    return f"{column.cell(entry)['text']} {column.unit}"


SECTION = Section("answer", "Answer", "What to ship", "answer.html.j2", show, unfolded=True)
