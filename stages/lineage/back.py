"""From a model back: which models a name means, and what they were made of, checked link by link."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from knowtune.checkpoints.cards import ADAPTER_CARD, MERGED
from knowtune.common.errors import UserError, unknown
from knowtune.common.files import read_json
from knowtune.lineage.graph import Graph, Node
from stages.lineage.checks import check_graph
from stages.lineage.known import Known
from stages.lineage.recorded import LOCK, Recorded

MODELS = ("adapter", "merged", "mixture")


def models_named(graph: Graph, name: str, start: Path, missing: Iterable[str] = ()) -> list[Node]:
    """Return the models that a name means: the last that was made of each seed.

    Args:
        graph: of the pipeline.
        name: of a run or mixture, with or without a seed, or a folder.
        start: the folder that a path is seen from.
        missing: stages that have not run yet.

    Raises:
        UserError: there is none.
    """
    models = [node for kind in MODELS for node in graph.of(kind)]
    if (start / name).is_dir():
        return _models_at(models, (start / name).resolve(), name)
    member, _, seed = name.partition("/")
    wanted = member if not seed else f"{member}/seed-{seed.removeprefix('seed-')}"
    for kind in reversed(MODELS):
        named = [node for node in graph.of(kind) if wanted in (node.member, node.name)]
        if named:
            return named
    waiting = [stage for stage in missing if stage.partition("@")[2] == member]
    if waiting:
        raise UserError(f"{name}: not made yet, {', '.join(waiting)} has not run; `make run` does it")
    raise unknown("run, mixture or folder", name, dict.fromkeys(node.member for node in models))


def _models_at(models: list[Node], folder: Path, name: str) -> list[Node]:
    """Find the models of a folder: those that lie in it, else those whose weights its card names."""
    inside = [node for node in models if (here := Path(node.path).resolve()) == folder or here.parent == folder]
    if inside:
        return inside
    card = next((folder / card for card in (MERGED, ADAPTER_CARD) if (folder / card).is_file()), None)
    if card is None:
        raise UserError(f"MODEL: got the folder {name}; allowed: a model's, with {MERGED} or {ADAPTER_CARD} in it")
    weights = read_json(card).get("weights_digest")
    same = [node for node in models if weights and node.facts.get("weights_digest") == weights]
    if not same:
        raise UserError(f"{name}: its card says weights {str(weights)[:8]}, which nothing here has made")
    return [same[-1]]


def trace_models(known: Known, models: list[Node], runs: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Say what models were made of.

    Args:
        known: of their pipeline.
        models: the nodes.
        runs: stage to the run of the store that made it, see `stages.tracking.origin`.

    Returns:
        `models`, ids of the nodes asked for; `nodes` and `arrows`; `stages` with cmd, params, deps and outs; `code`,
        for each stage its run and commit; `faults`, all that is missing, stale or tampered with.
    """
    recorded, chain = known.recorded, known.graph.back(models)
    check_graph(chain, recorded, known.objects, past=known.past)
    stages = dict.fromkeys(node.stage for node in chain.nodes.values() if node.stage in recorded.stages)
    plain = chain.as_dict()
    for node in plain["nodes"]:
        node["md5"] = recorded.md5_of(node["stage"], node["path"]) or recorded.read_as(node["path"])
    return {
        "models": [node.id for node in models],
        **plain,
        "stages": {
            name: {
                "cmd": recorded.commands[name],
                "params": recorded.of_stage[name],
                **{kind: {at: entry["md5"] for at, entry in digests.items()} for kind, digests in stage.items()},
            }
            for name, stage in recorded.stages.items()
            if name in stages
        },
        "code": {name: {**runs.get(name, {}), "locked": locked_since(recorded, name)} for name in stages},
        "faults": list(dict.fromkeys(fault for node in chain.nodes.values() for fault in node.faults)),
    }


def locked_since(recorded: Recorded, stage: str) -> str:
    """Return the first commit whose dvc.lock holds what a stage wrote; "" where none does."""
    md5 = next((str(entry["md5"]) for entry in recorded.stages[stage]["outs"].values()), "")
    command = ["git", "log", "--reverse", "--format=%H", f"-S{md5}", "--", LOCK]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False) if md5 else None
    except OSError:  # no git here
        return ""
    return done.stdout.partition("\n")[0] if done else ""
