"""Check a params file before DVC starts, PEFT's own options included, and remember those that were good."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cli.paths import SIGNS
from cli.sets import faults_of_sets
from knowtune.common.errors import Problem, raise_gathered
from knowtune.common.files import text_digest, tree_digest, whole
from knowtune.evaluation.metrics import METRICS
from knowtune.filters import FILTERS
from knowtune.registry import member_class
from knowtune.text.templates import PACKAGE, is_local
from stages.core.faults.paths import hub_folder, is_own, sections_with_paths
from stages.core.faults.raw import has_known
from stages.core.params import PARAMS, load_params, read_yaml
from stages.core.pipeline import read_stages
from stages.core.schema import Params

STAMP = Path(".work/checked.json")


def check_params(path: Path) -> Params:
    """Check a params file.

    The light check runs always. Checking PEFT's own options imports PEFT (seconds), so options that were good are not
    checked again until they, the checks or PEFT change.

    Raises:
        UserError: all faults of the file.
    """
    params = load_params(path)
    if path.resolve() == PARAMS.resolve():  # any other file works in a workspace, where its paths are settled
        raw = read_yaml(path)
        problems = unsaid(raw) or missing_paths(params, path.parent) or faults_of_sets(raw, path.parent)
        raise_gathered(str(path), problems)
    if params.answers.sketch is not None and not reads_sketches(params):
        print(f"{path}: answers.sketch: no filter reads it; `sketch: null` saves its time", file=sys.stderr)
    if has_known(params.model_dump()) and not reads_known(params):
        named = ", ".join(name for name in METRICS if "known" in member_class(METRICS, "metric", name).needs)
        print(f"{path}: evaluate.metrics: none reads the known rows that `source` gives; add {named}", file=sys.stderr)
    adapters = [chosen.adapter for chosen in params.selections.values() if chosen.adapter is not None]
    options = [
        (trained.type, trained.options) for trained in [*params.runs.values(), *adapters] if trained.method == "peft"
    ]
    if not options:
        return params
    code = [tree_digest(Path(folder)) for folder in ("knowtune/methods", "stages/core")]
    key = text_digest([*options, *code, version("peft")])
    known: list[str] = []
    with suppress(OSError, ValueError, TypeError):  # none yet, or cut short: the file is checked again
        known = list(json.loads(STAMP.read_text(encoding="utf-8")))
    if key not in known:
        load_params(path, deep=True)
        with suppress(OSError):  # a folder that is only read: the next check takes its seconds again
            STAMP.parent.mkdir(exist_ok=True)
            with whole(STAMP) as part:
                part.write_text(json.dumps([key, *known][:50]), encoding="utf-8")
    return params


def say_all(raw: dict[str, Any]) -> dict[str, Any]:
    """Give params the keys that dvc.yaml reads and that their file may leave out, with what leaving them out means."""
    source = raw["source"]
    own = source.get("replay_text")
    return {**raw, "source": {**source, "replay_text": own or source["text"]}, "rehearse": raw.get("rehearse")}


def unsaid(raw: dict[str, Any]) -> list[Problem]:
    """List the keys that params.yaml itself may not leave out: dvc.yaml reads them, and no command fills them in.

    Args:
        raw: params that are good otherwise.
    """
    problems = []
    if "rehearse" not in raw:
        problems.append(Problem("rehearse", "nothing", "a mapping, or null for none; dvc.yaml reads this key"))
    if not raw["source"].get("replay_text"):
        allowed = "a path, that of source.text where there is no other; dvc.yaml reads this key"
        problems.append(Problem("source.replay_text", "nothing", allowed))
    return problems


def reads_known(params: Params) -> bool:
    """Tell whether a metric looks at what the base knows; those of a classifier need no rows for it."""
    needs = [member_class(METRICS, "metric", name).needs for name in params.evaluate.metrics]
    return params.task.kind != "knowledge" or any("known" in need for need in needs)


def reads_sketches(params: Params) -> bool:
    """Tell whether a filter compares gradients."""
    named = {strategy for chosen in params.filters.values() for strategy in chosen.strategy}
    return any("sketches" in member_class(FILTERS, "filter", name).needs for name in named)


def missing_paths(params: Params, root: Path) -> list[Problem]:
    """List the settings whose path leads to nothing, or that no command can name.

    DVC would name the path, but not the setting.

    Args:
        params: good otherwise.
        root: what relative paths are relative to.
    """
    problems = []
    written = {Path(out).parts[:2] for stage in read_stages(root).values() for out in stage.outs}
    for section, values, key in sections_with_paths(params.model_dump(by_alias=True)):
        given = str(values[key])
        if SIGNS.search(given):
            allowed = 'a path without signs that a shell reads, such as " $ ` and \\; make a link to it'
            problems.append(Problem(f"{section}.{key}", repr(given), allowed))
            continue
        if is_own(section, given):
            continue
        if Path(os.path.normpath(given)).parts[:2] in written:
            allowed = "a path that no stage writes; a name of your own below data/ or elsewhere"
            problems.append(Problem(f"{section}.{key}", f"{given!r}, which a stage writes", allowed))
            continue
        if (root / given).exists():
            continue
        allowed = "a path at which something is"
        if given.startswith(PACKAGE) or (given.count("/") == 1 and not is_local(given)):
            allowed += f"; an entry of `hub` with {given!r} as `repo` brings it, into {hub_folder()}NAME"
        problems.append(Problem(f"{section}.{key}", repr(given), allowed))
    return problems
