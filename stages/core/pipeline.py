"""dvc.yaml with params.yaml put in: what each stage runs, reads and writes, and which params it depends on.

DVC does the same when it runs; asking it takes a second and its Python interface is not for stages. This reads the part
of dvc.yaml's grammar that this project uses: `${...}` and `foreach` over a mapping.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from knowtune.common.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]  # a workspace's code, and its dvc.yaml, are links to the project's
CHECK = "validate"  # the stage that checks params.yaml and writes which code every other one runs
FIELD = re.compile(r"\$\{\s*([^}]+?)\s*\}")


@dataclass(frozen=True)
class Stage:
    """A stage with everything put in.

    Args:
        name: as DVC says it, e.g. "train@lora".
        family: the params section whose members it expands over, e.g. "runs" or "evaluate.retention"; "" where it has
            no members.
        member: e.g. "lora".
        description: `desc`, one line.
        command: `cmd`.
        deps: paths it reads.
        outs: paths it writes, metrics and plots included.
        metrics: those outs that DVC lists as metrics.
        params: the params it depends on, flat: dotted key to value.
    """

    name: str
    family: str
    member: str
    description: str
    command: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    metrics: tuple[str, ...]
    params: dict[str, Any]


def read_stages(folder: Path) -> dict[str, Stage]:
    """Resolve the pipeline of a project or workspace, in dvc.yaml's order."""
    return resolve(quick_yaml(folder / "dvc.yaml"), quick_yaml(folder / "params.yaml"))


def quick_yaml(path: Path) -> dict[str, Any]:
    """Read YAML with the C parser: a few milliseconds, for files that have been checked elsewhere.

    Raises:
        UserError: it is no YAML, or no mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        value = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        why = " ".join(str(error).split()).replace('in "<unicode string>",', "at")
        raise UserError(f"{path}: not readable as YAML: {why}") from error
    if not isinstance(value, Mapping | None):
        raise UserError(f"{path}: got {type(value).__name__}; allowed: a mapping")
    return dict(value or {})


@cache
def project_out(stage: str, member: str = "") -> str:
    """Return the path of a stage's first out in the project's dvc.yaml.

    Args:
        stage: its name; a family's without @ and member.
        member: of the family; with "" the path ends with the slash behind which members' names stand.
    """
    body = _stages(quick_yaml(PROJECT / "dvc.yaml"))[stage]
    return _paths(body.get("do", body)["outs"], {"key": member})[0]


def resolve(pipeline: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Stage]:
    """Resolve a pipeline.

    Args:
        pipeline: dvc.yaml as read.
        params: params.yaml as read.

    Returns:
        Name to stage.

    Raises:
        UserError: a `${...}` names nothing, or a form of dvc.yaml that is not read here.
    """
    stages = {}
    known = _with_vars(pipeline.get("vars", ()), params)
    for family, body in _stages(pipeline).items():
        if "foreach" not in body:
            stages[family] = _stage(family, "", "", body, params, known)
            continue
        section = str(body["foreach"]).strip("${} ")
        members = _value(section, known)
        if not isinstance(members, Mapping):
            raise UserError(f"dvc.yaml: {family}.foreach: got {type(members).__name__}; allowed: a mapping by name")
        for key, item in members.items():
            name = f"{family}@{key}"
            names = {**known, "key": key, "item": item}
            stages[name] = _stage(name, section, str(key), body["do"], params, names)
    return stages


def _with_vars(variables: Iterable[Mapping[str, Any]], params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the `vars` of dvc.yaml, which stand for keys that params.yaml may leave out."""
    for values in variables:
        params = {**params, **{key: _beneath(value, params.get(key)) for key, value in values.items()}}
    return params


def _beneath(value: Any, given: Any) -> Any:
    """Give what is given, with what stands for the keys that it leaves out."""
    if not isinstance(value, Mapping) or not isinstance(given, Mapping):
        return value if given is None else given
    return {**given, **{key: _beneath(inner, given.get(key)) for key, inner in value.items()}}


def _stages(pipeline: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the stages of dvc.yaml."""
    stages = pipeline.get("stages")
    if not isinstance(stages, Mapping):
        raise UserError("dvc.yaml: got no stages; allowed: a mapping of stages by name")
    return stages


def _stage(
    name: str,
    section: str,
    member: str,
    body: Mapping[str, Any],
    params: Mapping[str, Any],
    names: Mapping[str, Any],
) -> Stage:
    """Put values into one stage."""
    keys = [_fill(key, names) for key in body.get("params", ()) if isinstance(key, str)]
    if len(keys) < len(body.get("params", ())):
        raise UserError(f"dvc.yaml: {name}.params: got a mapping; allowed: keys of params.yaml")
    metrics = tuple(_paths(body.get("metrics", ()), names))
    written = [*_paths(body.get("outs", ()), names), *metrics, *_paths(body.get("plots", ()), names)]
    return Stage(
        name=name,
        family=section,
        member=member,
        description=str(body.get("desc", "")),
        command=_fill(str(body["cmd"]), names),
        deps=tuple(_paths(body.get("deps", ()), names)),
        outs=tuple(written),
        metrics=metrics,
        params={flat: value for key in keys for flat, value in flatten(_value(key, params), key)},
    )


def _paths(entries: Any, names: Mapping[str, Any]) -> list[str]:
    """List paths; an entry with settings is a mapping of one key."""
    return [_fill(e if isinstance(e, str) else next(iter(e)), names) for e in entries]


def _fill(text: str, names: Mapping[str, Any]) -> str:
    """Put values in for every `${...}`."""
    return FIELD.sub(lambda field: str(_value(field[1], names)), text)


def _value(key: str, names: Mapping[str, Any]) -> Any:
    """Look a dotted key up; `a[0]` is an element of a list."""
    value: Any = names
    for part in re.findall(r"[^.\[\]]+", key):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise UserError(f"dvc.yaml: ${{{key}}}: params.yaml has no {part!r} there") from error
    return value


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the leaves of nested mappings as dotted keys; lists and empty mappings are leaves."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
