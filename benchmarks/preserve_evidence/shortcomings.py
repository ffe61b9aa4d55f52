"""What the page's trainings took beyond what was aimed at, from the finished ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.preserve_evidence.results import TaskResults

SECONDS, HOURS, TIMES = 60, 2, 1.3  # of a training, of a page, of a distilling step's memory: what was aimed at


def shortcomings(results: Sequence[TaskResults]) -> Iterator[str]:
    """Yield what took longer than aimed at, and more memory."""
    counts = []
    for result in results:
        took = [float(piece["cpu"]) + float(piece["ready"]) for piece in result.trainings]
        longer = sum(seconds > SECONDS for seconds in took)
        counts.append(f"{longer} of {len(took)} trainings on {result.name} took longer, the longest {max(took):.0f} s")
    hours = sum(result.hours for result in results)
    yield (
        f"- At most {SECONDS} CPU seconds a training and {HOURS} CPU hours in all were aimed at. {'; '.join(counts)}; "
        f"all together {hours:.1f} hours."
    )
    ratios = {
        f"{arm} on {result.name}": ratio
        for result in results
        for arm in result.arms
        if "ewc" in arm and (ratio := result.times_plain(arm, "memory"))
    }
    if ratios and max(ratios.values()) > TIMES:
        most = max(ratios, key=lambda name: ratios[name])
        yield (
            f"- A step that distils was to take at most {TIMES:g} times the memory of a plain one. A step with an "
            f"anchor by Fisher information takes up to {ratios[most]:.2f} times ({most})."
        )
