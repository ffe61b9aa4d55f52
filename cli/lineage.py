"""Where a model comes from, and where a row went: from what DVC, MLflow and the stages recorded, checked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.lineage.words import row_lines, table_of, version_line
from stages.core.params import PARAMS
from stages.core.pipeline import quick_yaml
from stages.lineage.back import models_named, trace_models
from stages.lineage.known import Known, known_here, known_of
from stages.lineage.recorded import LOCK

if TYPE_CHECKING:
    import argparse

    from stages.tracking.origin import Origins

SCHEME = "models:/"
EXAMPLES = 'make lineage ROW="capital:Chile:5", make lineage ROW="of Chile", make lineage MODEL=lora/seed-0'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--row", metavar="ID", help="a row's id, or a piece of its text that no other row has")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a run or mixture, one seed of it (lora/seed-0), the folder of a model, models:/NAME@ALIAS, or a version, "
        "e.g. champion or 3",
    )
    parser.add_argument("--quick", action="store_true", help="look into the folder alone, and do not ask MLflow")
    parser.add_argument("--json", action="store_true", help="print JSON, with all that is known")


def lineage(folder: Path, row: str | None, model: str | None, *, quick: bool, as_json: bool) -> int:
    """Print where a model comes from, or where a row went.

    Args:
        folder: the project or a workspace.
        row: an id or a piece of text.
        model: a run, a mixture, one of their seeds, a folder, or the address of a registered model.
        quick: do not ask MLflow.
        as_json: print plain data.

    Returns:
        0; 1 where a link is missing, stale or tampered with.

    Raises:
        UserError: neither or both are given, or the name is unknown.
    """
    if bool(row) == bool(model):
        got = "both ROW and MODEL" if row else "neither ROW nor MODEL"
        raise UserError(f"got {got}; give one of them: {EXAMPLES}")
    start = Path.cwd()
    os.chdir(folder)
    if row:
        answer = _row(row, quick=quick, as_json=as_json)
    else:
        answer = _model(str(model), start, quick=quick)
        if not as_json:
            print("\n".join(model_lines(answer)))
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        print("\n".join(f"FAULT: {fault}" for fault in answer["faults"]), end="\n" if answer["faults"] else "")
    return 1 if answer["faults"] else 0


def _row(wanted: str, *, quick: bool, as_json: bool) -> dict[str, Any]:
    """Trace a row here and through the registered versions; what is known at once is printed at once."""
    from stages.lineage.forward import trace_row, versions_with

    known = known_here(Path())
    answer: dict[str, Any] = {"id": wanted, "faults": []}
    problem = None
    try:
        answer = trace_row(known, wanted)
    except UserError as error:
        problem = error
    known.objects.remember()
    if problem is None and not as_json:
        print("\n".join(row_lines(answer)), flush=True)
    origins = None if quick else _origins()
    versions = [] if origins is None else list(versions_with(origins, Path(), answer["id"]))
    if problem is not None and not any(version["saw"] or version["helped"] for version in versions):
        raise problem
    if problem is not None and not as_json:
        print(
            f"{wanted}: no row here any more, but models that were registered have learned it, or were chosen with it"
        )
    if versions and not as_json:
        print("\n".join(["\nregistered versions", *map(version_line, versions)]))
    answer["versions"] = versions
    answer["faults"] += [fault for version in versions for fault in version["faults"]]
    return answer


def _model(name: str, start: Path, *, quick: bool) -> dict[str, Any]:
    """Trace a model of this folder, or a registered one."""
    name = _address(name)
    if name.startswith(SCHEME):
        from stages.tracking.origin import Origins

        origins = Origins()
        origin = origins.of(name)
        known, node = known_of(origin, Path())
        models, runs = [node], origin.runs or {}
        if origin.lock is not None:
            runs |= _runs(known, origins)
    else:
        known = known_here(Path())
        models = models_named(known.graph, name, start, known.recorded.missing)
        runs = {} if quick else _runs(known)
    answer = trace_models(known, models, runs)
    known.objects.remember()
    return answer


def _address(name: str) -> str:
    """Write a version's number or alias as the address of the model that params.yaml promotes."""
    from stages.core.params import load_params
    from stages.tracking.registry import CANDIDATE, CHAMPION, PREVIOUS

    params = load_params(PARAMS)
    if params.promote is None or name in {*params.runs, *params.mixtures}:
        return name
    if name.isdigit():
        return f"{SCHEME}{params.promote.model}/{name}"
    return f"{SCHEME}{params.promote.model}@{name}" if name in (CANDIDATE, CHAMPION, PREVIOUS) else name


def _origins() -> Origins | None:
    """Open the project's store; None where there is none, or where it does not answer, which is said."""
    from stages.tracking.addresses import StoreError, address
    from stages.tracking.store import in_words

    uri = address()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return None
    from stages.tracking.origin import Origins

    try:
        return Origins()
    except StoreError as error:
        print(
            f"no registered versions and no commits of runs, for MLflow is out of reach: {in_words(error)}",
            file=sys.stderr,
        )
        return None


def _runs(known: Known, origins: Origins | None = None) -> dict[str, dict[str, str]]:
    """Find the runs that made what is known; none where there is no store."""
    origins = origins or _origins()
    experiment = str(quick_yaml(PARAMS)["tracking"]["experiment"])
    return {} if origins is None else origins.runs_of(experiment, known.recorded.stages)


def model_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """Tell a model's chain as lines of text: the table, params of its members, the code, whether all links hold."""
    yield from table_of(answer["nodes"])
    yield "\nparams"
    shown = {
        key: value
        for stage in answer["stages"].values()
        for key, value in stage["params"].items()
        if key.partition(".")[0] in ("filters", "selections", "runs", "mixtures") and "." in key
    }
    yield from (f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in shown.items())
    yield "\ncode"
    groups: dict[str, list[str]] = {}
    for stage, code in answer["code"].items():
        changed = " with changed files" if code.get("dirty") == "true" else ""
        ran = f"ran at commit {code['commit'][:8]}{changed}" if code.get("commit") else ""
        since = f"in {LOCK} since commit {code['locked'][:8]}" if code["locked"] else "not committed"
        groups.setdefault(", ".join(filter(None, (ran, since))), []).append(stage)
    yield from (f"  {', '.join(stages)}: {words}" for words, stages in groups.items())
    if not answer["faults"]:
        outs = sum(len(stage["outs"]) for stage in answer["stages"].values())
        yield f"\nall links hold: {outs} outs of {len(answer['stages'])} stages are what was recorded"
