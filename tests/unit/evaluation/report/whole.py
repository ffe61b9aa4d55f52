"""A report with everything that one can have: ten models with long names, all sections, a verdict with a champion."""

from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd

from knowtune.common.statistics import mean_interval
from knowtune.evaluation.leaderboard import Entry
from knowtune.evaluation.report.contents import Baseline, Cost, Model, Prepared, Report, make_report
from knowtune.filters.plot import draw_filter
from tests.unit.helpers import TASK

METRICS = ["reliability", "generalisation", "forgotten", "text_drift", "kl_to_base", "known", "locality", "pushed_away"]
NAMES = [f"run_with_a_rather_long_name_{number}" for number in range(10)]
SEEDS = (0, 1, 2)
KINDS = ("reliability", "generalisation", "locality")
SUMMARY = {
    "facts": 12, "train": 24, "validation": 5, "retention": 3, "rejected": 1, "cautions": ["of <data>"],
    "label_noise": {"empty": 2}, "test": {"reliability": 12, "generalisation": 12, "locality": 12},
}  # fmt: skip
RECORDED = {"generalisation": 0.4, "forgotten": 0.25}  # of the champion, whose run is another today
DISTANCES = {"edges": [0.0, 0.5, 1.0], "kept": [4, 2], "dropped": {"1. clean": [1, 1]}, "cuts": {"2. nearest": [0.8]}}
FILTER = {
    "distances": DISTANCES, "interference": None, "rows": {"read": 8, "kept": 6},
    "groups": {"number": 2, "names": ["capital", "colour"], "read": [4, 4], "kept": [4, 2], "by": "relation"},
}  # fmt: skip


@cache
def whole_report() -> Report:
    """Make it once; the second model is the one to ship, the last the champion. Tests leave it as it is."""
    rows = pd.DataFrame(
        [
            {"id": f"{kind}:{i}", "fact": f"{kind}:{i}", "relation": ("capital", "colour")[i % 2], "kind": kind,
             "prompt": f"</script><b>prompt {i} of {kind}", "text_pair": "", "target": f"right {i}"}
            for kind in KINDS
            for i in range(12)
        ]
    )  # fmt: skip
    return make_report(
        METRICS,
        "knowledge",
        TASK,
        Prepared(rows, rows, pd.DataFrame({"id": ["locality:0"], "kind": ["empty"]}), SUMMARY),
        Baseline(dict.fromkeys(METRICS, 0.0), (12, 12), []),
        [_model(number, rows) for number in range(len(NAMES))],
        {"near": (rows[:4], FILTER)},
        {"fish": draw_filter(FILTER) or ""},
        {},
        _verdict(),
    )


def _model(number: int, rows: pd.DataFrame) -> Model:
    """Make a model that is right on so many rows of each kind, with seeds that differ a little."""
    learned, kept = number + 1, 12 - number
    limits = rows["kind"].map({"reliability": 12, "generalisation": learned, "locality": kept})
    place = rows["id"].str.split(":").str[1].astype(int)
    examples = pd.concat(
        [
            rows[["id", "fact", "relation", "kind", "target"]].assign(
                correct=place < limits - seed % 2,
                answer="wrong <i>",
                distance=(place / 12).where(place >= limits, 0.0),
                base_correct=rows["kind"] == "locality",
                base_answer="before",
                base_distance=0.5,
                seed=seed,
            )
            for seed in SEEDS
        ],
        ignore_index=True,
    )
    shares = {"generalisation": learned / 12, "forgotten": 1 - kept / 12, "text_drift": number / 10}
    summary = {metric: mean_interval([shares.get(metric, 0.5) + seed / 100 for seed in SEEDS]) for metric in METRICS}
    steps = [
        {"seed": seed, "step": step, "split": split, "loss": (number + 2) / step}
        for seed in SEEDS
        for step in (1, 2, 3)
        for split in ("train", "validation")
    ]
    entry = Entry(NAMES[number], "full on clean, replay, distill", 902016, 1e-6, summary)
    params: dict[str, Any] = {"selection": "clean", "seeds": list(SEEDS)}
    return Model(entry, examples, pd.DataFrame(steps), params=params, cost=Cost(350, 558, 902016, 3_600_000))


def _verdict() -> dict[str, Any]:
    checks = [{"name": "learned", "passed": True, "text": "learned more", "value": 1, "bound": 0, "low": 0, "high": 2}]
    candidates = [{"run": name, "passed": name == NAMES[1], "failed": ["lost <too> much"]} for name in NAMES]
    champion = {"model": "knowtune", "version": "3", "run": NAMES[-1], "seed": 0, "metrics": RECORDED}
    return {
        "verdict": "ship", "run": NAMES[1], "seed": 2, "judged": NAMES[1], "summary": f"ship {NAMES[1]}: learned more",
        "checks": checks, "candidates": candidates, "champion": champion,
    }  # fmt: skip
