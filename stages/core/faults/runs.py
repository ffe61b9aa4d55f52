"""Runs: what a method demands, a selection that suits it, training that overrides what is shared, weights of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from knowtune.common.errors import Problem
from knowtune.methods import METHODS
from knowtune.registry import member_class
from knowtune.selectors.scope import Scoped
from knowtune.training.recipe import Recipe
from knowtune.training.weights import BY_LOSS
from stages.core.faults.members import Members
from stages.core.faults.raw import family, has_validation, task_kind
from stages.core.shape import as_problems


def check_runs(raw: dict[str, Any], members: Members) -> Iterator[Problem]:
    """Check every run."""
    for name, section in family(raw, "runs").items():
        where, method = f"runs.{name}", members.methods[name]
        selector = members.selectors.get(section.get("selection", ""))
        if method is not None:
            yield from method.demands(members.context(where, section))
        if selector is not None:
            yield from _rows(where, section, selector)
        if method is not None and selector is not None:
            yield from _mask(raw, where, section, method, selector)
        yield from _training(raw, where, section)
        yield from _reweight(raw, where, section)
        yield from _phases(raw, where, section)


def _rows(where: str, section: dict[str, Any], selector: Any) -> Iterator[Problem]:
    """Check that what the selection chooses has an effect."""
    chosen, trains_on = section["selection"], section.get("train_on", "all")
    if selector.chooses_rows and not selector.masks and trains_on == "all":
        got = f"'all', so that what {chosen!r} chooses has no effect"
        yield Problem(f"{where}.train_on", got, "chosen, or a selection that chooses parameters")
    if not selector.chooses_rows and trains_on == "chosen":
        got = f"'chosen', but {chosen!r} leaves no row out"
        yield Problem(f"{where}.train_on", got, "all, or a selection with `samples`")


def _mask(raw: dict[str, Any], where: str, section: dict[str, Any], method: Any, selector: Any) -> Iterator[Problem]:
    """Check that a run's method has a mask where it needs one, can use the one that there is, and whose it is."""
    chosen = family(raw, "selections")[section["selection"]]
    methods = {name: member_class(METHODS, "method", name) for name in METHODS}
    method, named = method.inside, (section.get("inner") or section)["method"]
    key = f"{where}.inner.method" if section.get("inner") else f"{where}.method"
    if not selector.masks:
        if method.needs_mask:
            got = f"{section['selection']!r}, which makes no parameter mask; {named} trains one"
            yield Problem(f"{where}.selection", got, "a selection with a budget, or with `protect`")
        return
    if chosen.get("adapter") is not None and not method.needs_mask:
        adapter = chosen["adapter"].get("method")
        got = f"{named!r} on {section['selection']!r}, which hands on its own {adapter}"
        masked = ", ".join(name for name, other in methods.items() if other.needs_mask)
        yield Problem(key, got, f"{masked}, without options")
    elif not method.uses_mask:
        masked = ", ".join(name for name, other in methods.items() if other.uses_mask)
        allowed = f"a selection without budget and `protect`, or a method that can use a mask: {masked}"
        yield Problem(f"{where}.selection", f"{section['selection']!r}, which makes a parameter mask", allowed)
    elif not method.needs_mask and isinstance(selector, Scoped) and selector.shares_alike:
        got = f"{section['selection']!r}, which has equal shares of every parameter, and so changes no rank of {named}"
        allowed = "granularity: global in the selection, or a pattern; or method: fish"
        yield Problem(f"{where}.selection", got, allowed)


def _training(raw: dict[str, Any], where: str, section: dict[str, Any]) -> Iterator[Problem]:
    """Check what a run overrides of `training`, and that the result has what it needs."""
    own, shared = section.get("training", {}), raw.get("training", {})
    try:
        recipe = Recipe.model_validate({**shared, **own})
    except ValidationError as error:
        keys = {f"{where}.training.{key}" for key in own}
        yield from (problem for problem in as_problems(error, f"{where}.training", Recipe) if problem.where in keys)
        return
    if recipe.load_best_model_at_end and not has_validation(raw):
        key = "training.load_best_model_at_end"
        path = f"{where}.{key}" if "load_best_model_at_end" in own else key
        yield Problem(path, "true", "false, for `source` gives no validation rows")


def _reweight(raw: dict[str, Any], where: str, section: dict[str, Any]) -> Iterator[Problem]:
    """Check that the task has the distances, losses or tokens by which a run weighs."""
    kind, weighting = task_kind(raw), section.get("reweight")
    if weighting is None:
        return
    form = weighting.get("form", "linear")
    if form == "stm" and kind in ("classification", "regression"):
        got = f"'stm', which masks tokens, and a {kind} learns one label or score of a row"
        yield Problem(f"{where}.reweight.form", got, "flow, or `reweight: null`")
    elif kind == "regression" and form not in BY_LOSS:
        got = "weights by semantic distance, which scores do not have"
        yield Problem(f"{where}.reweight", got, "null or form: flow, where task.kind is 'regression'")
    elif kind == "classification" and weighting.get("granularity") == "token":
        allowed = "example; a classification learns one label of a row, not tokens"
        yield Problem(f"{where}.reweight.granularity", "'token'", allowed)


def _phases(raw: dict[str, Any], where: str, section: dict[str, Any]) -> Iterator[Problem]:
    """Check that rows have relations, and weights that do not span the phases."""
    if section.get("phases") is None:
        return
    if (kind := task_kind(raw)) in ("classification", "regression"):
        yield Problem(f"{where}.phases", f"relations, which the rows of a {kind} do not have", "null")
    if section.get("reweight") is not None:
        got = "weights in a training of several phases, each of which knows its own rows alone"
        yield Problem(f"{where}.reweight", got, "null, or no `phases`")
