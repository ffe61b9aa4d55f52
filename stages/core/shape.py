"""Whether a params file has the shape of the schema: keys, types and bounds; each fault is a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from knowtune.common.errors import Problem, nearest
from stages.core.plain import quote

# how pydantic names an alternative
TYPE = re.compile(r"(str|int|float|bool|(list|dict|function-\w+|constrained-\w+)(\[.*\])?)", re.DOTALL)


def check_shape(raw: dict[str, Any], model: type[BaseModel]) -> tuple[list[Problem], dict[str, Any]]:
    """Check a mapping against a model.

    Args:
        raw: plain values.
        model: what it has to be.

    Returns:
        The problems; and the mapping without what is not as the model says. Keys may be missing in it, but every value
        has the type that the model gives it, so that further checks may rely on that.
    """
    try:
        model.model_validate(raw)
    except ValidationError as error:
        problems = as_problems(error, "", model)
        return problems, _without_faults(raw, error, model)
    return [], raw


def _without_faults(raw: dict[str, Any], error: ValidationError, model: type[BaseModel]) -> dict[str, Any]:
    """Leave out every value that is wrong, and what remains wrong without it."""
    wrong = [item["loc"] for item in error.errors() if item["type"] != "missing"]
    if not wrong:
        return raw
    left = raw
    for location in wrong:
        left = _without(left, _without_tags(location, model))
    if left == raw:  # nothing stands at these keys: trust no value of the section
        left = {key: value for key, value in raw.items() if key not in {str(location[0]) for location in wrong}}
    try:
        model.model_validate(left)
    except ValidationError as further:
        return _without_faults(left, further, model)
    return left


def _without(value: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """Copy a mapping without what stands at a path, or without as much around it as has a key."""
    first, rest = path[0], path[1:]
    inner = value.get(first)
    if rest and isinstance(inner, dict) and rest[0] in inner:
        return {**value, first: _without(inner, rest)}
    return {key: other for key, other in value.items() if key != first}


def as_problems(error: ValidationError, prefix: str, model: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's errors into ours: one line each, with the nearest name for an unknown key."""
    problems = []
    for item in error.errors():
        path = _without_tags(item["loc"], model)
        where = ".".join([*([prefix] if prefix else []), *path])
        if item["type"] == "extra_forbidden":
            known = _fields_at(model, path[:-1])
            problems.append(Problem(where, "an unknown key", ", ".join(sorted(known)), nearest(path[-1], known)))
        elif item["type"] == "missing":
            problems.append(Problem(where, "nothing", "a value; this key is required"))
        elif item["type"] in ("union_tag_invalid", "union_tag_not_found"):
            tag = str(item["ctx"]["discriminator"]).strip("'")
            got = quote(item["ctx"].get("tag", "nothing"))
            allowed = str(item["ctx"].get("expected_tags", "one of the known ones"))
            names = [name.strip(" '") for name in allowed.split(",")]
            problems.append(Problem(f"{where}.{tag}", got, allowed, nearest(got.strip("'"), names)))
        else:
            message, hint = item["msg"].removeprefix("Input should be ").removeprefix("Value error, "), ""
            if item["type"] == "model_type":
                message = "a mapping of keys"
            elif item["type"] == "too_short":
                message = f"a list of at least {item['ctx']['min_length']}"
            elif item["type"] == "literal_error":
                hint = nearest(item["input"], re.findall(r"'(.*?)'", item["ctx"]["expected"]))
            if path[-1:] == ["[key]"]:  # the only pattern that keys have
                message, where = "a name of letters, digits, _ and -", ".".join([prefix, *path[:-1]]).strip(".")
            problems.append(Problem(where, quote(item["input"]), message, hint))
    return _join(problems)


def _join(problems: Sequence[Problem]) -> list[Problem]:
    """Make one problem of those that say of one value what it might have been."""
    joined: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        other = joined.setdefault((problem.where, problem.got), problem)
        if other.allowed != problem.allowed:
            joined[problem.where, problem.got] = replace(other, allowed=f"{other.allowed}, or {problem.allowed}")
    return list(joined.values())


def _without_tags(location: tuple[str | int, ...], model: type[BaseModel]) -> list[str]:
    """Leave out which alternative of a union pydantic tried: it names that after the field, or after a family's key."""
    path: list[str] = []
    models, step = [model], "field"
    for part in map(str, location):
        if (step == "tag" and part != "[key]") or (not models and TYPE.fullmatch(part)):
            step = "field"
            continue
        path.append(part)
        if step == "key":
            step = "tag" if len(models) > 1 else "field"
            continue
        fields = [f for m in models for name, f in m.model_fields.items() if part in (name, f.alias)]
        models = _models_in(fields[0].annotation) if fields else []
        family = bool(fields) and get_origin(fields[0].annotation) is dict
        step = "key" if family else "tag" if len(models) > 1 else "field"
    return path


def _fields_at(model: type[BaseModel], path: list[str]) -> set[str]:
    """Return the keys allowed at a path below a model: of all its alternatives, where the path leads to a union."""
    models = [model]
    for part in path:
        inside = []
        for candidate in models:
            field = candidate.model_fields.get(part)
            inside += _models_in(field.annotation) if field else []
        models = inside or models  # a family member's own name leads nowhere: its fields are the family's
    return {field.alias or name for m in models for name, field in m.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Find the settings models inside an annotation such as `dict[Name, RunParams]` or `A | B`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models_in(part)]
