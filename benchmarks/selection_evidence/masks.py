"""Where the arms' masks lie in the model, and how much of them they share."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.selection_evidence.arms import NAMES
from benchmarks.selection_evidence.results import TaskResults
from knowtune.models.masks import overlap, read_mask

KINDS = {  # kind of parameter -> what its name has; the first that fits
    "embeddings": ("embed",),
    "norms": ("norm",),
    "attention": ("attn", "attention"),
    "MLP": ("mlp", "intermediate", "output", "pooler"),
}


def kind_of(parameter: str) -> str:
    """Name the kind of a parameter; a norm inside of another part is a norm."""
    low = parameter.lower()
    if "norm" in low:
        return "norms"
    return next((kind for kind, parts in KINDS.items() if any(part in low for part in parts)), "MLP")


def mask_tables(results: Sequence[TaskResults], work: Path) -> Iterator[str]:
    """Yield one table: shares of each kind of parameter, and what the mask shares with FISH's, means over seeds."""
    yield f"| task | parameters by | {' | '.join(KINDS)} | also in FISH's mask |"
    yield "| --- " * (3 + len(KINDS)) + "|"
    for result in results:
        chosen = [record for record in result.selections if record["rank"] == 4]
        fish = {record["seed"]: record for record in chosen if record["arm"] == "fish"}
        for arm in dict.fromkeys(record["arm"] for record in chosen):
            own = [record for record in chosen if record["arm"] == arm]
            shares = [
                statistics.fmean(
                    sum(kept for name, kept in record["kept"].items() if kind_of(name) == kind)
                    / sum(record["kept"].values())
                    for record in own
                )
                for kind in KINDS
            ]
            shared = _shared(work, result, fish, own) if fish and arm != "fish" else None
            common = "–" if shared is None else f"{shared:.0%}"
            yield f"| {result.name} | {NAMES[arm]} | {' | '.join(f'{share:.0%}' for share in shares)} | {common} |"


def _shared(
    work: Path, result: TaskResults, fish: dict[int, dict[str, Any]], own: Sequence[dict[str, Any]]
) -> float | None:
    """Return what an arm's masks share with FISH's of the same seeds; where they are not kept, what was noted."""
    pairs = [(record, fish.get(record["seed"]) or next(iter(fish.values()))) for record in own]
    shared = [share for pair in pairs if (share := _overlap(work, result.name, *pair)) is not None]
    return statistics.fmean(shared) if shared else result.overlaps.get(own[0]["arm"])


def _overlap(work: Path, task: str, one: dict[str, Any], other: dict[str, Any]) -> float | None:
    """Compare two masks; None where one is not kept."""
    paths = [work / "masks" / f"{task}-{record['key']}.safetensors" for record in (one, other)]
    return overlap(*map(read_mask, paths)) if all(path.is_file() for path in paths) else None
