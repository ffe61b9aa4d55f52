"""Push-away: which answers moved away from their targets, how far, and which did so most.

A reconstruction of the first finding of *Semantic are Beacons* (Wang, Li, arXiv 2405.18292): fine-tuning can move a
model away from the target that it is to learn. The distances are those of `knowtune.semantics.distance`: how far
the answer of the pristine base (before) and of a tuned model (after) is from the target, both by the pristine base's
vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from knowtune.common.statistics import interval_text, mean_interval
from knowtune.data.contract import EXAMPLE_KINDS
from knowtune.evaluation.distance_change import PUSHED, distance_changes

WORST = 20  # rows that are shown of a model
SHOWN = 200  # characters of a prompt or an answer that are shown
GRID = 100  # steps of a curve
LEARNED, KNOWN = "new facts", "known facts"
GROUPS = {LEARNED: ("reliability", "generalisation"), KNOWN: ("locality",)}


@dataclass(frozen=True)
class PushAway:
    """What the report shows.

    Args:
        rows: a line per model and kind: see `by_kind`.
        worst: per model, see `farthest`; models that push none of these away are missing.
        curves: per model and group, see `_ordered`.
    """

    rows: Sequence[Mapping[str, Any]]
    worst: Mapping[str, Sequence[Mapping[str, Any]]]
    curves: Mapping[str, Mapping[str, Sequence[float]]]


def push_away(examples: Mapping[str, pd.DataFrame], prompts: Mapping[str, str]) -> PushAway | None:
    """Gather what the report shows, or None where no example of any model has a distance.

    Args:
        examples: per model, its results of all seeds: id, fact, kind, target, answer, distance, base_answer,
            base_distance, seed.
        prompts: of the examples, by id.
    """
    measured = {
        name: table.assign(change=distance_changes(table)).dropna(subset="change") for name, table in examples.items()
    }
    if all(table.empty for table in measured.values()):
        return None
    rows = [{"model": name, **line} for name, table in measured.items() for line in by_kind(table)]
    worst = {name: farthest(table, prompts) for name, table in measured.items()}
    curves = {name: _ordered(table) for name, table in measured.items()}
    return PushAway(rows, {name: lines for name, lines in worst.items() if lines}, curves)


def by_kind(examples: pd.DataFrame) -> list[dict[str, Any]]:
    """Describe a model's changes per kind of example, in the kinds' order.

    Args:
        examples: kind, base_distance, change, seed.

    Returns:
        Per kind that has examples: kind, count (of a seed), before (mean distance of the base's answers) and, as text
        with the 95 % interval over seeds: pushed (share pushed away), by (mean growth of those, 0 where there
        are none) and change (mean of all, negative where answers came nearer).
    """
    lines = []
    for kind in EXAMPLE_KINDS:
        chosen = examples[examples["kind"] == kind]
        seeds = [seed["change"] for _, seed in chosen.groupby("seed")]
        if not seeds:
            continue
        pushed = [change[change > PUSHED] for change in seeds]
        shares = [len(far) / len(change) for far, change in zip(pushed, seeds, strict=True)]
        growths = [float(far.mean()) if len(far) else 0.0 for far in pushed]
        lines.append(
            {
                "kind": kind,
                "count": max(map(len, seeds)),
                "before": f"{chosen['base_distance'].mean():.3f}",
                "pushed": interval_text(mean_interval(shares), share=True),
                "by": interval_text(mean_interval(growths), share=False),
                "change": interval_text(mean_interval([float(change.mean()) for change in seeds]), share=False),
            }
        )
    return lines


def farthest(examples: pd.DataFrame, prompts: Mapping[str, str], count: int = WORST) -> list[dict[str, Any]]:
    """Return the new facts' examples that were pushed away farthest, each once, with its worst seed.

    Args:
        examples: as for `push_away`, with `change`.
        prompts: of the examples, by id.
        count: at most so many.

    Returns:
        The farthest first, equals by seed and id: fact, kind, prompt, target, base_answer, answer, before, after, seed.
    """
    pushed = examples[(examples["change"] > PUSHED) & examples["kind"].isin(GROUPS[LEARNED])]
    rounded = pushed.assign(change=pushed["change"].round(6))  # so that rounding decides no order
    ordered = rounded.sort_values(["change", "seed", "id"], ascending=[False, True, True], kind="stable")
    return [
        {
            "fact": example["fact"],
            "kind": example["kind"],
            "prompt": shorten(prompts[example["id"]].rstrip()),
            "target": shorten(example["target"]),
            "base_answer": shorten(example["base_answer"]),
            "answer": shorten(example["answer"]),
            "before": f"{example['base_distance']:.3f}",
            "after": f"{example['distance']:.3f}",
            "seed": int(example["seed"]),
        }
        for example in ordered.drop_duplicates("id").head(count).to_dict("records")
    ]


def shorten(text: str) -> str:
    """Cut a text after `SHOWN` characters, and say so."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _ordered(table: pd.DataFrame) -> dict[str, list[float]]:
    """Return a model's changes in order by group, the farthest first: from where they meet 0, none is pushed away.

    They are quantiles at the steps of `GRID`, so that a million examples are no million points.
    """
    import numpy as np

    changes = {group: table.loc[table["kind"].isin(kinds), "change"] for group, kinds in GROUPS.items()}
    grid = np.linspace(0, 1, GRID + 1)
    return {group: np.quantile(of_group, 1 - grid).tolist() for group, of_group in changes.items() if len(of_group)}
