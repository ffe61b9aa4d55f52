"""What KaSA forgets beside the pristine and beside its own truncated base, and what that does to PEFT's comparison."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.evidence.numbers import format_metric
from benchmarks.methods_evidence.arms import LOW_RANK, arms_of
from benchmarks.methods_evidence.results import TaskResults
from benchmarks.methods_evidence.texts import BOARD
from knowtune.common.statistics import mean_interval


def truncated(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield what KaSA forgets of the pristine base, and of its truncated one, and how much worse it reads text."""
    heads = [f"{name}, {base} base" for name in ("forgotten", "text_drift") for base in ("pristine", "truncated")]
    yield f"| task | arm | {' | '.join(heads)} |"
    yield "| --- " * 6 + "|"
    for result in results:
        if result.truncated is None:
            continue
        untrained = [format_metric(name, result.truncated[name], None) for name in ("forgotten", "text_drift")]
        yield f"| {result.name} | truncated, not trained | {untrained[0]} | – | {untrained[1]} | – |"
        untrained_drift = result.truncated["text_drift"]  # a difference of two losses, so it can be taken off
        for arm in result.arms:
            run = list(result.comparison.run(arm).values())
            if all("forgotten_of_truncated" in scores for scores in run):
                drifts = [scores["text_drift"] for scores in run]
                measured = [
                    ("forgotten", [scores["forgotten"] for scores in run]),
                    ("forgotten", [scores["forgotten_of_truncated"] for scores in run]),
                    ("text_drift", drifts),
                    ("text_drift", [drift - untrained_drift for drift in drifts]),
                ]
                means = [(name, mean_interval(values)) for name, values in measured]
                cells = [format_metric(name, each["mean"], each["half_width"]) for name, each in means]  # type: ignore[arg-type]
                yield f"| {result.name} | {arm} | {' | '.join(cells)} |"


def beside_board(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield what the choice of the base does to PEFT's comparison."""
    hidden, drifts, places = [], [], []
    for result in results:
        run = list(result.comparison.run("KaSA").values())
        if result.truncated is not None and run:
            gaps = [scores["forgotten"] - scores["forgotten_of_truncated"] for scores in run]
            own, gap = statistics.fmean(scores["forgotten"] for scores in run), statistics.fmean(gaps)
            hidden.append(f"{100 * gap:.1f} of {100 * own:.1f} points ({result.name})")
            untrained, by_arm = result.truncated["text_drift"], _text_drifts(result)
            drifts.append(f"{untrained:.3f} of {by_arm['KaSA']:.3f} ({result.name})")
            of = [sum(each < by_arm["KaSA"] - less for each in by_arm.values()) + 1 for less in (0.0, untrained)]
            places.append(f"{of[0]} of {len(by_arm)} from the pristine base and {of[1]} from its own ({result.name})")
    if hidden:
        yield f"- Measured against the truncated base, KaSA's forgetting is smaller by {', '.join(hidden)}."
        yield f"- By the board's measure it is smaller by all that the truncation costs: {', '.join(drifts)}."
        yield f"- Among low-rank adapters at their chosen rates, least first, its drift has place {', '.join(places)}."
        yield from BOARD


def _text_drifts(result: TaskResults) -> dict[str, float]:
    """Give the mean drift on text of KaSA and of the others of its kind, less PEFT's KaSA, at their chosen rates."""
    names = [arm.name for arm in arms_of(result.name) if arm.family == LOW_RANK and arm.name != "PEFT's KaSA"]
    runs = {name: list(result.comparison.run(name).values()) for name in names if name in result.arms}
    return {name: statistics.fmean(scores["text_drift"] for scores in run) for name, run in runs.items()}
