"""Read a sweep's file: which values to try, where in params.yaml, and what is best; every fault at once.

    params: params.yaml            # what all points share; the default
    grid:                          # all combinations are run
      runs.lora.options.rank: [4, 16]
      runs.lora.training.learning_rate: [0.001, 0.004]
    objective: lora.generalisation # what the table is sorted by
    direction: maximize            # the default

A study, by Optuna, in place of `grid`: each trial learns from those before.

    study: {trials: 20, seed: 0}
    space:
      runs.lora.options.rank: {low: 2, high: 32, log: true}
      runs.lora.method: [lora, kasa]
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cli.checks import say_all
from cli.paths import settle_paths
from cli.sets import faults_of_sets
from knowtune.common.errors import Problem, UserError, nearest, raise_gathered
from knowtune.common.files import text_digest
from stages.core.faults import faults_of
from stages.core.params import PARAMS, read_yaml
from stages.core.plain import quote
from stages.core.schema import Line, Section
from stages.core.shape import check_shape

MOST = 1000  # points of a grid, or trials
FAMILIES = ("hub", "filters", "selections", "runs", "mixtures", "evaluate.retention")  # whose keys are names
Values = Annotated[list[Any], Field(min_length=1)]


class Range(Section):
    """Numbers between two bounds: whole ones where both bounds are."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if not self.low < self.high or (self.log and self.low <= 0) or (self.log and self.step is not None):
            raise ValueError("low below high; with log: low above 0, and no step")
        return self


class StudyOptions(Section):
    """How many trials a study has, and the seed of what it draws."""

    trials: Annotated[int, Field(ge=1, le=MOST)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class SweepFile(Section):
    """The shape of the file."""

    params: Line = str(PARAMS)
    data: Line | None = None  # the folder that DATA/ stands for in a preset
    grid: Annotated[dict[str, Values], Field(min_length=1)] | None = None
    study: StudyOptions | None = None
    space: Annotated[dict[str, Range | Values], Field(min_length=1)] | None = None
    objective: Line | None = None
    direction: Literal["maximize", "minimize"] = "maximize"
    targets: Annotated[list[Line], Field(min_length=1)] | None = None


@dataclass(frozen=True)
class Point:
    """One set of values.

    Args:
        values: path in params.yaml to value.
        params: the whole params with them.
        number: of Optuna's trial; -1 in a grid.
    """

    values: Mapping[str, Any]
    params: Mapping[str, Any]
    number: int = -1

    @property
    def name(self) -> str:
        """Return the name of its workspace, the same for the same values."""
        return text_digest(dict(self.values))[:8]

    @property
    def run(self) -> str:
        """Return what its run in MLflow is called: equal params, equal name."""
        return text_digest(dict(self.params))[:12]

    @property
    def label(self) -> str:
        """Say the values in a few words: the last part of each path where that is enough."""
        return ", ".join(f"{short}={_word(self.values[path])}" for path, short in short_names(self.values).items())


@dataclass(frozen=True)
class Sweep:
    """A sweep's file that was read: its name, what all points share, and what it says."""

    name: str
    params_file: Path
    shared: Mapping[str, Any]
    said: SweepFile

    @property
    def paths(self) -> list[str]:
        """Return where the values go."""
        return list(self.said.grid or self.said.space or {})

    def point(self, values: Mapping[str, Any], number: int = -1) -> Point:
        """Put values into what all share."""
        return Point(dict(values), with_values(self.shared, values), number)

    def grid(self) -> list[Point]:
        """Return all combinations of a grid; the last path varies first."""
        choices = self.said.grid or {}
        return [self.point(dict(zip(choices, chosen, strict=True))) for chosen in itertools.product(*choices.values())]

    def corners(self) -> list[Point]:
        """Return points whose values are all those of a grid, or the bounds and choices of a space."""
        choices = self.said.grid or {path: _ends(space) for path, space in (self.said.space or {}).items()}
        first = {path: values[0] for path, values in choices.items()}
        every = [first, *({**first, path: value} for path, values in choices.items() for value in values[1:])]
        return [self.point(values) for values in every]


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep's file: paths, types of values, targets, objective.

    Raises:
        UserError: all its faults.
    """
    raw = read_yaml(path)
    problems, _ = check_shape(raw, SweepFile)
    raise_gathered(str(path), problems or _contradictions(raw))
    said = SweepFile.model_validate(raw)
    shared = read_yaml(Path(said.params))
    raise_gathered(said.params, faults_of(shared, deep=False))
    settled = settle_paths(say_all(shared), Path.cwd(), Path(said.data) if said.data else None, said.params)
    raise_gathered(said.params, faults_of_sets(settled, Path.cwd()))
    sweep = Sweep(path.stem, Path(said.params), shared, said)
    unknown = _unknown_paths(sweep)
    rest = _faults_of_values(sweep, without={problem.where for problem in unknown})
    raise_gathered(str(path), [*unknown, *rest, *_fault_of_objective(sweep)])
    return sweep


def with_values(shared: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy params and put values at their paths; mappings on the way are made."""
    params: dict[str, Any] = _own(shared)
    for path, value in values.items():
        *above, last = path.split(".")
        place = params
        for part in above:
            if not isinstance(place.get(part), dict):
                place[part] = {}
            place = place[part]
        place[last] = _own(value)
    return params


def _own(value: Any) -> Any:
    """Copy a value; what YAML's anchors share becomes each place's own."""
    if isinstance(value, Mapping):
        return {key: _own(inner) for key, inner in value.items()}
    return [_own(inner) for inner in value] if isinstance(value, list) else value


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Give each path as few of its last parts as tell it from the others."""
    every = list(paths)
    names = {}
    for path in every:
        parts = path.split(".")
        tails = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
        others = [other for other in every if other != path]
        names[path] = next(tail for tail in tails if not any(f".{other}".endswith(f".{tail}") for other in others))
    return names


def metric_names(params: Mapping[str, Any]) -> list[str]:
    """Return the metrics and further sets that each run and mixture is measured by."""
    evaluate = params["evaluate"]
    return [*evaluate["metrics"], *(evaluate.get("retention") or {})]


def _word(value: Any) -> str:
    """Say a value in a few letters."""
    return f"{value:.6g}" if isinstance(value, float) else quote(value, 40) if isinstance(value, dict) else str(value)


def _ends(space: Range | list[Any]) -> list[Any]:
    """Return the bounds of a range, or all choices."""
    return [space.low, space.high] if isinstance(space, Range) else space


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
                    problems.append(Problem(path, f"no {part!r} in {sweep.said.params}", known, nearest(part, place)))
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
    if sweep.said.objective is None:
        return []
    models = [*sweep.shared["runs"], *(sweep.shared.get("mixtures") or {})]
    known = [f"{model}.{metric}" for model in models for metric in metric_names(sweep.shared)]
    if sweep.said.objective in known:
        return []
    allowed = f"RUN.METRIC, with a metric of evaluate.metrics: {', '.join(metric_names(sweep.shared))}"
    return [Problem("objective", repr(sweep.said.objective), allowed, nearest(sweep.said.objective, known))]


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
