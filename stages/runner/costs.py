"""What each stage cost, in an untracked file that `plan` and the benchmark read."""

from __future__ import annotations

import json
from pathlib import Path

COSTS = Path(".work/costs.jsonl")


def note_cost(stage: str, started: float, ended: float) -> None:
    """Append a line for a stage: its seconds, and the most memory that this process has held."""
    import resource

    COSTS.parent.mkdir(exist_ok=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    entry = {"stage": stage, "started": started, "ended": ended, "seconds": ended - started, "peak_bytes": peak}
    with COSTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
