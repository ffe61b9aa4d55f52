"""What a divergence from the base says about forgetting, over all trainings of a task: rank correlations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.evidence.comparisons import GRID_SEED
from benchmarks.preserve_evidence.results import LEARNED, LOST, TaskResults

PREDICTORS = ("kl_to_base", "kl_to_base_prompts", "text_drift", LEARNED)
FEWEST = 10  # trainings, or arms, that a correlation is over


def correlations(trainings: Sequence[Mapping[str, Any]], predictor: str) -> dict[str, float | None]:
    """Correlate a metric with what is forgotten, by ranks (Spearman).

    Args:
        trainings: finished ones, with their arm and metrics.
        predictor: the metric.

    Returns:
        `all`: over all trainings; `between`: over the arms' means; `within`: over what each training lies above its
        arm's mean, in arms of several. None where there are too few.
    """
    table = pd.DataFrame(
        {"arm": piece["arm"], "x": piece["metrics"][predictor], "y": piece["metrics"][LOST]} for piece in trainings
    )
    if table.empty:
        return dict.fromkeys(("all", "between", "within"))
    ranks = table[["x", "y"]].rank()
    by_arm = ranks.groupby(table["arm"])
    within = (ranks - by_arm.transform("mean"))[by_arm["x"].transform("size") > 1]
    parts = {"all": ranks, "between": table.groupby("arm")[["x", "y"]].mean().rank(), "within": within}
    return {
        name: float(part["x"].corr(part["y"])) if len(part) >= FEWEST and (part.std() > 0).all() else None
        for name, part in parts.items()
    }


def correlation_table(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield a line for each task and predictor, and which of them predicts best."""
    over_all: dict[str, list[float]] = {predictor: [] for predictor in PREDICTORS}
    yield "| task | predictor | trainings | all | between arms | within arms |"
    yield "| --- " * 6 + "|"
    for result in results:
        own = [piece for piece in result.trainings if piece["seed"] != GRID_SEED]
        for predictor in PREDICTORS:
            found = correlations(own, predictor)
            over_all[predictor] += [found["all"]] if found["all"] is not None else []
            cells = ["–" if value is None else f"{value + 0.0:.2f}" for value in found.values()]
            yield f"| {result.name} | {predictor} | {len(own)} | {' | '.join(cells)} |"
    known = {predictor: values for predictor, values in over_all.items() if values}
    if known:
        best = max(known, key=lambda predictor: min(known[predictor]))
        texts = [f"{predictor} {' and '.join(f'{value:.2f}' for value in known[predictor])}" for predictor in known]
        yield from [
            "",
            f"Over all trainings: {', '.join(texts)}. So {best} tells best which of two trainings forgets more.",
        ]
