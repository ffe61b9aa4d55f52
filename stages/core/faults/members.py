"""The members of families that a params file names, opened with their options; what is wrong with both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from knowtune.common.errors import Problem, nearest
from knowtune.evaluation.metrics import METRICS
from knowtune.filters import FILTERS
from knowtune.merging.mixtures import MIXTURES
from knowtune.methods import METHODS
from knowtune.registry import Context, member_class
from knowtune.selectors import SELECTORS
from knowtune.semantics.representations import REPRESENTATIONS
from stages.core.faults.paths import base_folder
from stages.core.faults.raw import family, has_replay, has_validation, is_quantized, task_kind
from stages.core.shape import as_problems


class Members:
    """Every member by its name in params.yaml; None where its name or its options are wrong.

    Args:
        raw: a params mapping without what has the wrong shape.
        deep: whether members may take seconds to check what they demand.
    """

    def __init__(self, raw: dict[str, Any], *, deep: bool) -> None:
        self._raw, self._deep = raw, deep
        self.problems: list[Problem] = []
        self.filters = {name: self._chain(name, section) for name, section in family(raw, "filters").items()}
        selections, runs = family(raw, "selections").items(), family(raw, "runs").items()
        self.selectors = {name: self._strategy(SELECTORS, "selector", "selections", name, s) for name, s in selections}
        self.adapters = {
            name: self._method(f"selections.{name}.adapter", section["adapter"])
            for name, section in selections
            if section.get("adapter") is not None
        }
        self.methods = {name: self._method(f"runs.{name}", section) for name, section in runs}
        mixtures = family(raw, "mixtures").items()
        self.mixtures = {name: self._strategy(MIXTURES, "mixture", "mixtures", name, s) for name, s in mixtures}
        for i, metric in enumerate(raw.get("evaluate", {}).get("metrics", [])):
            if metric not in METRICS:
                self._refuse(f"evaluate.metrics[{i}]", metric, list(METRICS))
        self._representation(raw.get("semantics", {}))

    def context(self, where: str, section: Mapping[str, Any]) -> Context:
        """Say what stands around a member, for what it demands."""
        raw = self._raw
        return Context(
            where=where,
            section=section,
            task=task_kind(raw),
            base=raw.get("base", {}),
            quantized=is_quantized(raw),
            has_validation=has_validation(raw),
            has_replay=has_replay(raw),
            deep=self._deep,
        )

    def _refuse(self, where: str, name: str, known: list[str]) -> None:
        """Note a name that no member has."""
        self.problems.append(Problem(where, repr(name), ", ".join(known), nearest(name, known)))

    def _open(self, registry: Mapping[str, str], what: str, name: str | None, options: Any, *where: str) -> Any:
        """Open a member.

        Args:
            registry: of its family.
            what: the family's word for a member.
            name: of the member.
            options: of the member.
            where: the keys of name and options.
        """
        if name is None:
            return None  # the check of the shape says so
        if name not in registry:
            self._refuse(where[0], name, sorted(registry))
            return None
        member = member_class(registry, what, name)
        try:
            return member.model_validate(options)
        except ValidationError as error:
            self.problems += as_problems(error, where[1], member)
            return None

    def _strategy(self, registry: Mapping[str, str], what: str, key: str, name: str, section: dict[str, Any]) -> Any:
        """Open the strategy of a selection or a mixture."""
        where = f"{key}.{name}.strategy", f"{key}.{name}.options"
        return self._open(registry, what, section.get("strategy"), section.get("options", {}), *where)

    def _chain(self, name: str, section: dict[str, Any]) -> list[Any]:
        """Open the strategies of a filter."""
        where, options = f"filters.{name}", section.get("options", {})
        return [
            self._open(FILTERS, "filter", s, options.get(s, {}), f"{where}.strategy[{i}]", f"{where}.options.{s}")
            for i, s in enumerate(section.get("strategy", []))
        ]

    def _method(self, where: str, section: dict[str, Any]) -> Any:
        """Open the method of a run, or of a selection's adapter; some have a `type`, which stands beside the name."""
        name, kind, options = section.get("method"), section.get("type"), section.get("options", {})
        fields = member_class(METHODS, "method", name).model_fields if name in METHODS else {}
        if "type" in fields:
            if "type" in options:
                self.problems.append(Problem(f"{where}.options.type", repr(options["type"]), f"{where}.type"))
            if kind is None:
                self.problems.append(Problem(f"{where}.type", "nothing", str(fields["type"].description)))
                return None
            options = {**options, "type": kind}
        elif kind is not None:
            typed = [other for other in METHODS if "type" in member_class(METHODS, "method", other).model_fields]
            allowed = f"only with {' or '.join(f'`method: {other}`' for other in typed)}"
            self.problems.append(Problem(f"{where}.type", repr(kind), allowed))
        inside = self._inside(where, section, fields)
        if inside is None:
            return None
        return self._open(METHODS, "method", name, {**options, **inside}, f"{where}.method", f"{where}.options")

    def _inside(self, where: str, section: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any] | None:
        """Open the method inside another; it stands beside the options. None where there must be one, and is none."""
        inner = section.get("inner")
        if "inner" not in fields:
            if inner is not None:
                having = [name for name in METHODS if "inner" in member_class(METHODS, "method", name).model_fields]
                allowed = f"only with {' or '.join(f'`method: {name}`' for name in having)}"
                self.problems.append(Problem(f"{where}.inner", repr(inner), allowed))
            return {}
        if "inner" in section.get("options", {}):
            self.problems.append(Problem(f"{where}.options.inner", repr(section["options"]["inner"]), f"{where}.inner"))
            return None
        if where.startswith("selections."):
            got = f"{section['method']!r}, which has another method inside"
            self.problems.append(Problem(f"{where}.method", got, "the method itself, e.g. lora"))
            return None
        if inner is None:
            self.problems.append(Problem(f"{where}.inner", "nothing", str(fields["inner"].description)))
            return None
        if inner.get("method") == section["method"]:
            self.problems.append(Problem(f"{where}.inner.method", repr(inner["method"]), "a method with none inside"))
            return None
        return None if self._method(f"{where}.inner", inner) is None else {"inner": inner}

    def _representation(self, section: dict[str, Any]) -> None:
        """Open the representation, and check that it reads a model of its own where it has one."""
        name, path, options = section.get("representation"), section.get("path"), section.get("options", {})
        own = name in REPRESENTATIONS and "path" in member_class(REPRESENTATIONS, "representation", name).model_fields
        if "path" in options:
            allowed = "`semantics.path`, which DVC watches"
            self.problems.append(Problem("semantics.options.path", repr(options["path"]), allowed))
            return
        given = {**options, "path": path or ""} if own else options
        self._open(REPRESENTATIONS, "representation", name, given, "semantics.representation", "semantics.options")
        base = base_folder()
        if own and path == base:
            why = f"the encoder's folder, for {name} is no representation by the base; an entry of `hub` brings one"
            self.problems.append(Problem("semantics.path", repr(path), why))
        if name in REPRESENTATIONS and not own and path not in (None, base):
            self.problems.append(Problem("semantics.path", repr(path), f"{base}, for {name} reads the base"))
