"""Which members of the families a stage opens by name: no import statement leads to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from knowtune.evaluation.metrics import METRICS
from knowtune.filters import FILTERS
from knowtune.merging.mixtures import MIXTURES
from knowtune.methods import METHODS
from knowtune.preserve import OPENED
from knowtune.registry import member_class
from knowtune.selectors import SELECTORS
from knowtune.semantics.representations import REPRESENTATIONS
from knowtune.tasks import TASKS
from stages.core.schema import FilterParams, LabelSet, MixtureParams, Params, RunParams, SelectionParams

Section = BaseModel | None  # what params.yaml says of a stage's member
Named = Callable[[str, Section, Params], Iterable[str]]  # of a stage's module, section and all params: names of members


def _strategies(kind: type[FilterParams | SelectionParams | MixtureParams]) -> Named:
    """Name the strategy of a selection or a mixture, or all of a filter's chain."""

    def member_names(_: str, section: Section, __: Params) -> list[str]:
        chain: str | list[str] = section.strategy if isinstance(section, kind) else []
        return [chain] if isinstance(chain, str) else chain

    return member_names


def _methods(_: str, section: Section, __: Params) -> list[str]:
    """Name the methods of a run or a selection, those inside of others too."""
    if section is None:
        return []
    trial = ["fish"] if isinstance(section, SelectionParams) and section.trial is not None else []  # trains a mask
    return [*_values_of("method", section.model_dump()), *trial]


def _representations(module: str, section: Section, params: Params) -> list[str]:
    """Name the representation where a stage opens it: not a run without weights or with the base's losses for them."""
    if module == "stages.train":
        weighting = section.reweight if isinstance(section, RunParams) else None
        opens = weighting is not None and not weighting.by_loss
    elif module in ("stages.baseline", "stages.evaluate"):
        opens = any(member_class(METRICS, "metric", name).reads_answers for name in params.evaluate.metrics)
    else:
        opens = module == "stages.answers"
    return [params.semantics.representation] if opens else []


def _opened(_: str, section: Section, __: Params) -> list[str]:
    """Name what a run opens in order to keep something of its base."""
    return ["material", "preservation"] if isinstance(section, RunParams) and section.preserve is not None else []


def _tasks(_: str, section: Section, params: Params) -> list[str]:
    """Name the task, and that by whose rules a retention set's labels are read."""
    return [params.task.kind, *(["classification"] if isinstance(section, LabelSet) else [])]


def _values_of(key: str, value: Any) -> list[str]:
    """List the texts that stand under a key, at whatever depth."""
    if isinstance(value, Mapping):
        own = [value[key]] if isinstance(value.get(key), str) else []
        return own + [text for inner in value.values() for text in _values_of(key, inner)]
    return [text for inner in value for text in _values_of(key, inner)] if isinstance(value, list | tuple) else []


# A registry's module, its members, and which of them a stage opens that imports the registry. A registry holds strings
# only, so it is no part of anybody's code: a new member is nothing to the others.
FAMILIES: Mapping[str, tuple[Mapping[str, str], Named]] = {
    "knowtune.filters": (FILTERS, _strategies(FilterParams)),
    "knowtune.selectors": (SELECTORS, _strategies(SelectionParams)),
    "knowtune.merging.mixtures": (MIXTURES, _strategies(MixtureParams)),
    "knowtune.methods": (METHODS, _methods),
    "knowtune.preserve": (OPENED, _opened),
    "knowtune.evaluation.metrics": (METRICS, lambda _, __, params: params.evaluate.metrics),
    "knowtune.semantics.representations": (REPRESENTATIONS, _representations),
    "knowtune.tasks": (TASKS, _tasks),
}
REGISTRIES = frozenset({*FAMILIES, "knowtune.methods.tuners"})
# Sections that a stage reads and that params.yaml may leave out. DVC takes no key that is not there as a dependency.
OPTIONAL: Mapping[str, str] = {"stages.gate": "promote"}
