"""From a stage's outs to numbers, by convention; no stage is known by name.

A `*.json` file that is an out, or lies at the top of one, gives metrics: its numbers by dotted key, after the file's
name unless that is `metrics` or `summary`. `{"mean", "half_width", "n"}` is one metric and its half width. Numbers
below `seeds.N` or `seed-N` belong to that seed, as does all in a folder `seed-N`: `curve.csv` (step, split, loss) and
the adapter's card. Cards and model files are no metrics.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knowtune.checkpoints.cards import ADAPTER_CARD, CARD, MERGED
from knowtune.common.files import read_json

CARDS = {ADAPTER_CARD, CARD, MERGED}
UNSAID = {"metrics", "summary"}
INTERVAL = {"mean", "half_width", "n"}


@dataclass
class Seed:
    """What is known of one seed: numbers, losses by step, the adapter's card and folder where it has one."""

    metrics: dict[str, float] = field(default_factory=dict)
    curve: list[tuple[str, int, float]] = field(default_factory=list)
    card: dict[str, Any] = field(default_factory=dict)
    adapter: Path | None = None


def read_numbers(outs: Mapping[str, Path]) -> tuple[dict[str, float], dict[str, Seed]]:
    """Read a stage's numbers.

    Args:
        outs: path as dvc.yaml has it, to where its bytes lie.

    Returns:
        The stage's own metrics, and what belongs to each seed by its name, e.g. "seed-0".
    """
    metrics: dict[str, float] = {}
    seeds: dict[str, Seed] = defaultdict(Seed)
    for name, path in outs.items():
        for stem, file in _number_files(name, path):
            _sort_out(whole_json(file), "" if stem in UNSAID else f"{stem}.", metrics, seeds)
        for folder in sorted(path.glob("seed-*")):
            _read_seed(folder, seeds[folder.name])
    return metrics, dict(sorted(seeds.items(), key=lambda item: (len(item[0]), item[0])))


def whole_json(path: Path) -> Any:
    """Read a JSON file; a damaged one says nothing, and that is noted in the log."""
    try:
        return read_json(path)
    except ValueError as error:
        print(f"{path}: damaged ({error}); left out", flush=True)
        return None


def flat_numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Give the numbers of nested mappings by dotted key."""
    if isinstance(value, Mapping):
        if set(value) - {"without"} == INTERVAL and prefix:
            yield from flat_numbers(value["mean"], prefix)
            yield from flat_numbers(value["half_width"], f"{prefix}.half_width")
            return
        for key, inner in value.items():
            yield from flat_numbers(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield prefix, float(value)


def _number_files(name: str, path: Path) -> Iterator[tuple[str, Path]]:
    """List an out's JSON files that hold numbers, with the stem of their names."""
    if path.is_dir() and not (path / "config.json").is_file():
        for file in sorted(path.glob("*.json")):
            if file.name not in CARDS:
                yield file.stem, file
    elif path.is_file() and name.endswith(".json"):
        yield Path(name).stem, path


def _sort_out(value: Any, prefix: str, metrics: dict[str, float], seeds: dict[str, Seed]) -> None:
    """Put a file's numbers where they belong."""
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        if key == "seeds" and isinstance(inner, Mapping):
            for seed, numbers in inner.items():
                seeds[f"seed-{seed}"].metrics.update(_prefix(numbers, prefix))
        elif str(key).startswith("seed-"):
            seeds[str(key)].metrics.update(_prefix(inner, prefix))
        elif key in UNSAID:
            metrics.update(_prefix(inner, prefix))
        else:
            metrics.update(_prefix({key: inner}, prefix))


def _prefix(value: Any, prefix: str) -> dict[str, float]:
    """Flatten, and put the prefix before each key."""
    return {f"{prefix}{key}": number for key, number in flat_numbers(value)}


def _read_seed(folder: Path, seed: Seed) -> None:
    """Read what lies in a seed's folder."""
    curve, card = folder / "curve.csv", folder / ADAPTER_CARD
    if curve.is_file():
        try:
            with curve.open(encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file)
                seed.curve += [(_metric_of(row["split"]), int(row["step"]), float(row["loss"])) for row in rows]
        except (ValueError, LookupError, TypeError, csv.Error) as error:
            print(f"{curve}: damaged ({error}); left out", flush=True)
    if card.is_file() and not (folder / MERGED).is_file():
        content = whole_json(card)
        if isinstance(content, Mapping):
            seed.card, seed.adapter = dict(content), folder


def _metric_of(split: str) -> str:
    """Name a line of a curve; all but one are losses."""
    return split if split == "similarity" else f"{split}_loss"
