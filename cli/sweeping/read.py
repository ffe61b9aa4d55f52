"""Read and check a sweep's file: every fault at once, before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cli.checks import say_all
from cli.paths import settle_paths
from cli.sets import faults_of_sets
from cli.sweeping.file import MOST, Sweep, SweepFile, metric_names, with_values
from knowtune.common.errors import Problem, UserError, nearest, raise_gathered
from stages.core.faults import faults_of
from stages.core.params import read_yaml
from stages.core.plain import quote
from stages.core.shape import check_shape

FAMILIES = ("hub", "filters", "selections", "runs", "mixtures", "evaluate.retention")  # whose keys are names


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep's file: paths, types of values, targets, objective.

    Raises:
        UserError: all its faults.
    """
    raw = read_yaml(path)
    problems, _ = check_shape(raw, SweepFile)
    raise_gathered(str(path), problems or _contradictions(raw))
    options = SweepFile.model_validate(raw)
    shared = read_yaml(Path(options.params))
    raise_gathered(options.params, faults_of(shared, deep=False))
    settled = settle_paths(say_all(shared), Path.cwd(), Path(options.data) if options.data else None, options.params)
    raise_gathered(options.params, faults_of_sets(settled, Path.cwd()))
    sweep = Sweep(path.stem, Path(options.params), shared, options)
    unknown = _unknown_paths(sweep)
    rest = _faults_of_values(sweep, without={problem.where for problem in unknown})
    raise_gathered(str(path), [*unknown, *rest, *_fault_of_objective(sweep)])
    return sweep


def _contradictions(raw: Mapping[str, Any]) -> list[Problem]:
    """List what does not go together in the file."""
    problems = []
    if ("grid" in raw) == ("study" in raw):
        problems.append(Problem("grid", "both grid and study" if "grid" in raw else "nothing", "one of grid and study"))
    if ("study" in raw) != ("space" in raw):
        problems.append(Problem("space", "one of study and space", "both, or none"))
    if "study" in raw and "objective" not in raw:
        problems.append(Problem("objective", "nothing", "RUN.METRIC, for a study needs to know what is better"))
    number = 1
    for path, values in (raw.get("grid") or {}).items():
        number *= len(values)
        if any(value in values[:i] for i, value in enumerate(values)):
            problems.append(Problem(f"grid.{path}", quote(values, 80), "each value once"))
    if number > MOST:
        problems.append(Problem("grid", f"{number} points", f"up to {MOST}; a study tries fewer"))
    return problems


def _unknown_paths(sweep: Sweep) -> list[Problem]:
    """List the paths whose way leads through a name that params.yaml does not have."""
    problems = []
    for path in sweep.paths:
        place: Any = sweep.shared
        parts = path.split(".")
        for i, part in enumerate(parts):
            if not isinstance(place, dict):
                problems.append(Problem(path, f"{'.'.join(parts[:i])} is {quote(place, 80)}", "a path of keys"))
                break
            if part not in place:
                if i == 0 or ".".join(parts[:i]) in FAMILIES:
                    known = ", ".join(map(str, place))
                    problems.append(
                        Problem(path, f"no {part!r} in {sweep.options.params}", known, nearest(part, place))
                    )
                break  # a key that may be left out: the check of the values knows it
            place = place[part]
    return problems


def _faults_of_values(sweep: Sweep, without: Collection[str]) -> list[Problem]:
    """Check the params with every value that is named, but at some paths, and say each fault once."""
    seen: dict[str, Problem] = {}
    for point in sweep.corners():
        params = with_values(sweep.shared, {path: v for path, v in point.values.items() if path not in without})
        deep = any(run.get("method") == "peft" for run in params["runs"].values() if isinstance(run, dict))
        for fault in faults_of(params, deep=deep):  # PEFT's own options take its import to be checked
            seen.setdefault(str(fault), fault)
    return list(seen.values())


def _fault_of_objective(sweep: Sweep) -> list[Problem]:
    """Say why the objective is none; nothing where it is one."""
    if sweep.options.objective is None:
        return []
    models = [*sweep.shared["runs"], *(sweep.shared.get("mixtures") or {})]
    known = [f"{model}.{metric}" for model in models for metric in metric_names(sweep.shared)]
    if sweep.options.objective in known:
        return []
    allowed = f"RUN.METRIC, with a metric of evaluate.metrics: {', '.join(metric_names(sweep.shared))}"
    return [Problem("objective", repr(sweep.options.objective), allowed, nearest(sweep.options.objective, known))]


def refuse_name(path: Path) -> None:
    """Refuse a file whose name cannot be that of a folder of DVC's.

    Raises:
        UserError: it has other signs than letters, digits, - and _.
    """
    if not path.name:
        raise UserError(
            "no file of a sweep is named: make sweep GRID=rank.yaml; docs/guide/sweeps.md says what it holds"
        )
    if not path.stem.replace("-", "").replace("_", "").isalnum():
        raise UserError(
            f"{path}: got the name {path.stem!r}; allowed: letters, digits, - and _, for a folder is named so"
        )
