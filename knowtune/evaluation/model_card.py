"""A model's card in Markdown: what it learned from, its base, how it was measured, what it forgot, how to load it.

The head is that of model cards on the Hugging Face hub (Mitchell et al., "Model Cards for Model Reporting", FAT* 2019,
arXiv 1810.03993, say what belongs into one).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from knowtune.common.statistics import interval_text
from knowtune.evaluation.metrics import METRICS
from knowtune.registry import member_class

NOT_SAID = "not said"
MOST_LOST = 10  # facts that are named
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")


@dataclass(frozen=True)
class Facts:
    """What a card says.

    Args:
        title: of the model, e.g. "kept, seed 2".
        method: how it was trained, in a few words.
        base: the base's identity.
        licence: of the base, as its own card has it.
        rows: training rows read, rejected, dropped by the filter, kept, of which planted damage.
        dropped: reason to count.
        summary: metric to mean, half_width and n over the run's seeds.
        own: metric to value of this seed.
        pristine: metric to value of the base.
        lost: relation and target of the known facts that the base has right and this seed has wrong.
        verdict: the gate's summary.
        uri: how the registry names it.
        needs_base: whether it is an adapter on a base.
    """

    title: str
    method: str
    base: str
    licence: str
    rows: Mapping[str, int]
    dropped: Mapping[str, int]
    summary: Mapping[str, Mapping[str, Any]]
    own: Mapping[str, float]
    pristine: Mapping[str, float]
    lost: pd.DataFrame
    verdict: str
    uri: str
    needs_base: bool


def licence_of(folder: Path) -> str:
    """Read a base's licence: the field `license` of its card's head, else the first line of its licence file."""
    card = folder / "README.md"
    if card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace").split("---")
        lines = head[1].splitlines() if len(head) > 2 and not head[0].strip() else []
        fields = dict(line.split(":", 1) for line in lines if line.startswith("license") and ":" in line)
        if named := fields.get("license_name", fields.get("license", "")).strip(" '\""):
            return named
    for path in (folder / name for name in FILES):
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace").strip().partition("\n")[0].strip()[:200]
    return NOT_SAID


def lost_facts(examples: pd.DataFrame, seed: int) -> pd.DataFrame:
    """List the known facts that the base has right and one seed has wrong: id, relation, target."""
    of_seed = examples[(examples["seed"] == seed) & (examples["kind"] == "locality")]
    lost = of_seed[of_seed["base_correct"].astype(bool) & ~of_seed["correct"].astype(bool)]
    return lost[["id", "relation", "target"]]


def model_card(of: Facts) -> str:
    """Write the card."""
    licence = "unknown" if of.licence == NOT_SAID else of.licence
    head = ["---", f"license: {json.dumps(licence)}", f"base_model: {json.dumps(of.base)}", "---"]
    rows = ", ".join(f"{count} {what}" for what, count in of.rows.items())
    reasons = [f"- {count} dropped: {reason}" for reason, count in of.dropped.items()]
    return "\n".join(
        [
            *head,
            f"# {of.title}",
            "",
            f"{of.method}. Base: {of.base}, licence: {of.licence}.",
            "",
            "## What it learned from",
            "",
            f"Training rows: {rows}.",
            *(["", *reasons] if reasons else []),
            "",
            "## How it was measured",
            "",
            f"Verdict of the gate: {of.verdict}.",
            "",
            *_scores(of),
            "",
            "## What it forgot",
            "",
            *_forgotten(of.lost),
            "",
            "## How to load it",
            "",
            *_loading(of),
            "",
        ]
    )


def _scores(of: Facts) -> list[str]:
    """Make a table of metrics: the base, this seed, all seeds of the run."""
    lines = ["| metric | base | this model | its run, 95 % interval over seeds |", "| --- | --- | --- | --- |"]
    for name, interval in of.summary.items():
        share = name in METRICS and member_class(METRICS, "metric", name).unit == "share"
        one = [_number(values.get(name), share=share) for values in (of.pristine, of.own)]
        lines.append(f"| {name} | {' | '.join(one)} | {interval_text(interval, share=share)} |")
    return lines


def _number(value: float | None, *, share: bool) -> str:
    """Write a metric; a share in percent."""
    return "–" if value is None else f"{100 * value:.1f} %" if share else f"{value:.3f}"


def _forgotten(lost: pd.DataFrame) -> Sequence[str]:
    """Say how many facts were lost, of which relations, and name some."""
    if lost.empty:
        return ["None of the known facts that were measured."]
    counts = lost["relation"].value_counts()
    of_relations = ", ".join(f"{name or 'no relation'} {count}" for name, count in counts.items())
    named = [f"- {row.id}: {row.target}" for row in lost.head(MOST_LOST).itertuples()]
    more = [f"- and {len(lost) - MOST_LOST} more"] if len(lost) > MOST_LOST else []
    return [
        f"{len(lost)} known fact{'s' if len(lost) > 1 else ''} that the base has right ({of_relations}), e.g.",
        "",
        *named,
        *more,
    ]


def _loading(of: Facts) -> list[str]:
    """Show how to load the model, and what it needs."""
    needs = ["It is an adapter: it needs the base named above, and refuses any other.", ""] if of.needs_base else []
    code = ["import mlflow", f'model = mlflow.pyfunc.load_model("{of.uri}")', 'model.predict({"question": ["..."]})']
    return [*needs, "```python", *code, "```", "", f'or `make ask MODEL={of.uri} Q="..."`, in the project.']
