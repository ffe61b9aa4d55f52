"""A sweep's file: which values to try, where in params.yaml, and what is best.

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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from knowtune.common.files import text_digest
from stages.core.params import PARAMS
from stages.core.plain import quote
from stages.core.schema import Line, Section

MOST = 1000  # points of a grid, or trials
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
    options: SweepFile

    @property
    def paths(self) -> list[str]:
        """Return where the values go."""
        return list(self.options.grid or self.options.space or {})

    def point(self, values: Mapping[str, Any], number: int = -1) -> Point:
        """Put values into what all share."""
        return Point(dict(values), with_values(self.shared, values), number)

    def grid(self) -> list[Point]:
        """Return all combinations of a grid; the last path varies first."""
        choices = self.options.grid or {}
        return [self.point(dict(zip(choices, chosen, strict=True))) for chosen in itertools.product(*choices.values())]

    def corners(self) -> list[Point]:
        """Return points whose values are all those of a grid, or the bounds and choices of a space."""
        choices = self.options.grid or {path: _ends(space) for path, space in (self.options.space or {}).items()}
        first = {path: values[0] for path, values in choices.items()}
        every = [first, *({**first, path: value} for path, values in choices.items() for value in values[1:])]
        return [self.point(values) for values in every]


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
