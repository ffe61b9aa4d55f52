"""What would run, about how long, how much disk. DVC says what; the books of earlier runs say how long."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from graphlib import TopologicalSorter
from pathlib import Path

from cli.claim import holder
from knowtune.common.errors import UserError
from stages.core.code import refresh_code
from stages.core.params import load_params, read_yaml
from stages.core.pipeline import CHECK
from stages.runner.costs import COSTS

REFERENCE = Path(
    "benchmarks/costs.json"
)  # measured on two cores with the embedded default; benchmarks/pipeline.py writes it


def plan(folder: Path) -> int:
    """Print the stages that would run, with the time and disk each takes.

    Returns:
        0.

    Raises:
        UserError: DVC cannot say, for dvc.yaml is broken.
    """
    stages = _stages(folder)
    own, sizes = _read_costs(folder / COSTS), _sizes(folder / "dvc.lock")
    reference = json.loads(REFERENCE.read_text()) if REFERENCE.is_file() else {}
    total = total_bytes = 0.0
    elsewhere = []
    for stage in stages:
        measured, fills = _about(stage, own), _about(stage, sizes)
        needs = measured if measured is not None else _about(stage, reference)
        if measured is None and needs is not None:
            elsewhere.append(stage)
        total, total_bytes = total + (needs or 0), total_bytes + (fills or 0)
        shown = ("~" if measured is None and needs is not None else "") + _figure(needs, 1, "s")
        print(f"{stage:32} {shown:>10} {_figure(fills, 1e6, 'MB'):>10}")
    if not stages:
        print("nothing would run: data and pipeline are up to date")
        return 0
    free = os.statvfs(folder)
    print(
        f"{len(stages)} stages, about {total / 60:.1f} minutes one after another (two at a time: two thirds of it) "
        f"and {total_bytes / 1e6:.0f} MB "
        f"({free.f_bavail * free.f_frsize / 1e9:.0f} GB are free). "
        "A stage whose inputs turn out unchanged, or that DVC's cache holds, is skipped."
    )
    if elsewhere:
        embedded = read_yaml(folder / "params.yaml").get("base", {}).get("model") == "embedded"
        print(how_rough(len(elsewhere), len(stages), embedded=embedded))
    return 0


def known_seconds(folder: Path) -> Callable[[str], float | None]:
    """Return what says how long a stage takes: as it did here, else as in the reference; None where nobody knows."""
    own = _read_costs(folder / COSTS)
    reference = json.loads(REFERENCE.read_text()) if REFERENCE.is_file() else {}

    def seconds(stage: str) -> float | None:
        measured = _about(stage, own)
        return measured if measured is not None else _about(stage, reference)

    return seconds


def how_rough(guessed: int, stages: int, *, embedded: bool) -> str:
    """Say how much the times of stages that have not run here are worth.

    Args:
        guessed: number of stages whose times were measured elsewhere.
        stages: of all that would run.
        embedded: whether the base is the embedded one, that the times are of.
    """
    words = f"~: {guessed} of the {stages} have not run here; the times are those of the embedded default on two cores"
    if embedded:
        return f"{words}, and change with data, runs and machine."
    return (
        f"{words}: of another model (1 million parameters) and other data, so they may be wrong by a factor of "
        "a hundred. The first run notes the true ones; prepare.max_facts and training.epochs make it a small one."
    )


def _stages(folder: Path) -> list[str]:
    """Ask DVC what has changed, and list it with all that follows: the most that can run.

    Its dry run says what has changed, but needs every input to be there. Where some are still to be made (a fresh
    clone, a new member), its status says it. Which code each stage runs is brought up to date first, unless somebody is
    at work here, who has done so.
    """
    if not holder(folder):
        refresh_code(folder, load_params(folder / "params.yaml"))
    dry, order = _dvc(folder, "repro", "--dry"), _dvc(folder, "dag", "--dot")
    if order.returncode != 0:
        raise UserError(order.stderr.strip() or order.stdout.strip())
    if dry.returncode == 0:
        changed = {line.split("'")[1] for line in dry.stdout.splitlines() if line.startswith("Running stage")}
        return would_run(changed, order.stdout)
    status = _dvc(folder, "status", "--json")
    if status.returncode != 0:
        raise UserError(status.stderr.strip() or status.stdout.strip())
    return would_run(set(json.loads(status.stdout)), order.stdout)


def would_run(changed: set[str], dot: str) -> list[str]:
    """Return the changed stages and all that depend on them, in an order in which they can run.

    All depend on the check, and nothing follows from it: what it writes is there before DVC is asked.

    Args:
        changed: what `dvc status` names.
        dot: the graph as `dvc dag --dot` gives it, an edge from what is needed to what needs it.
    """
    needs: dict[str, set[str]] = {}
    for line in dot.splitlines():
        names = re.findall(r'"([^"]+)"', line)
        for name in names:
            needs.setdefault(name, set())
        if len(names) == 2:
            needs[names[1]].add(names[0])
    running: list[str] = []
    for stage in TopologicalSorter(needs).static_order():
        if stage in changed or (needs[stage] - {CHECK}) & set(running):
            running.append(stage)
    return running


def _dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a dvc command in a folder and catch what it prints."""
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def _figure(value: float | None, scale: float, unit: str) -> str:
    """Give a figure with its unit, or a question mark."""
    return "?" if value is None else f"{value / scale:.1f} {unit}"


def _read_costs(book: Path) -> dict[str, float]:
    """Read how long stages took here last."""
    seconds: dict[str, float] = {}
    for line in book.read_text().splitlines() if book.is_file() else []:
        with suppress(ValueError, KeyError, TypeError):  # a line that a kill or a full disk cut short
            entry = json.loads(line)
            seconds[entry["stage"]] = float(entry["seconds"])
    return seconds


def _sizes(lock: Path) -> dict[str, float]:
    """Read from dvc.lock how many bytes each stage's outs had."""
    if not lock.is_file():
        return {}
    stages = read_yaml(lock).get("stages", {})
    return {name: float(sum(out.get("size", 0) for out in stage.get("outs", []))) for name, stage in stages.items()}


def _about(stage: str, figures: dict[str, float]) -> float | None:
    """Give a stage's own figure, or the median of its family's, or None."""
    if stage in figures:
        return figures[stage]
    family = [value for name, value in figures.items() if name.partition("@")[0] == stage.partition("@")[0]]
    return statistics.median(family) if family else None
