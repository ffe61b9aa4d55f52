"""Where a model comes from, and where a row went: from what DVC and the stages recorded, checked against the files."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.checkpoints.cards import ADAPTER_CARD, MERGED
from knowtune.common.errors import UserError, unknown
from knowtune.common.files import read_json
from knowtune.lineage.artefacts import make_graph
from knowtune.lineage.graph import Graph, Node
from knowtune.lineage.row import Rows
from knowtune.lineage.words import chain_rows, row_lines
from stages.lineage.checks import check_graph, paths_of
from stages.lineage.objects import Objects
from stages.lineage.recorded import LOCK, Recorded, layout, read_recorded

if TYPE_CHECKING:
    import argparse

MODELS = ("adapter", "merged", "mixture")
EXAMPLE = 'make lineage ROW="capital:Chile:5", make lineage ROW="Chile", make lineage MODEL=lora'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--row", metavar="ID", help="a row's id, or a piece of its text that no other row has")
    parser.add_argument(
        "--model", metavar="NAME", help="a run or mixture, one seed of it (lora/seed-0), or the folder of a model"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with all that is known")


def lineage(folder: Path, row: str | None, model: str | None, *, as_json: bool) -> int:
    """Print where a model comes from, or where a row went.

    Args:
        folder: the project or a workspace.
        row: an id or a piece of text.
        model: a run, a mixture, one of their seeds, or a folder.
        as_json: print plain data.

    Returns:
        0; 1 where a link is missing, stale or tampered with.

    Raises:
        UserError: neither or both are given, or the name is unknown.
    """
    if bool(row) == bool(model):
        raise UserError(f"got {'both ROW and MODEL' if row else 'neither ROW nor MODEL'}; give one of them: {EXAMPLE}")
    start = Path.cwd()
    os.chdir(folder)
    recorded = read_recorded(Path())
    objects = Objects(Path(), recorded.outs)
    graph = make_graph(recorded.params, layout(), objects.find)
    if row:
        answer = trace_row(graph, objects, row)
        lines = [*row_lines(answer)]
    else:
        answer = trace_model(graph, recorded, objects, models_named(graph, str(model), start))
        lines = [*model_lines(answer, graph)]
    objects.remember()
    faults: list[str] = answer["faults"]
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        print("\n".join([*lines, *(f"FAULT: {fault}" for fault in faults)]))
    return 1 if faults else 0


def trace_row(graph: Graph, objects: Objects, wanted: str) -> dict[str, Any]:
    """Say what became of a row; `faults` are what was looked for and is gone."""
    rows = Rows(graph, layout(), objects.find)
    return {**rows.trace(rows.look_up(wanted)), "faults": list(objects.gone.values())}


def models_named(graph: Graph, name: str, start: Path) -> list[Node]:
    """Return the models that a name means: the last that was made of each seed.

    Args:
        graph: of the pipeline.
        name: of a run or mixture, with or without a seed, or a folder.
        start: the folder that a path is seen from.

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


def trace_model(graph: Graph, recorded: Recorded, objects: Objects, models: list[Node]) -> dict[str, Any]:
    """Say what models were made of: nodes and arrows, params and code, and what is wrong with them."""
    chain = graph.back(models)
    check_graph(chain, recorded, objects)
    stages = dict.fromkeys(node.stage for node in chain.nodes.values() if node.stage in recorded.stages)
    plain = chain.as_dict()
    for node in plain["nodes"]:
        node["md5"] = paths_of(node["stage"], recorded, node["path"])
    return {
        "models": [node.id for node in models],
        **plain,
        "stages": {
            name: {
                "cmd": recorded.commands[name],
                "params": recorded.of_stage[name],
                "deps": {path: entry["md5"] for path, entry in recorded.stages[name]["deps"].items()},
                "outs": {path: entry["md5"] for path, entry in recorded.stages[name]["outs"].items()},
            }
            for name in stages
        },
        "commits": {name: _commit(recorded, name) for name in dict.fromkeys(node.stage for node in models)},
        "faults": list(dict.fromkeys(fault for node in chain.nodes.values() for fault in node.faults)),
    }


def model_lines(answer: Mapping[str, Any], graph: Graph) -> Iterable[str]:
    """Tell a model's chain as lines of text: the table, params of its members, the commit, whether all links hold."""
    md5s = {node["id"]: node["md5"] for node in answer["nodes"]}
    chain = Graph({name: graph.nodes[name] for name in md5s}, [])
    table = [("what", "name", "says", "md5", "where")]
    table += [
        (kind, name, words, md5s[f"{kind} {name}".strip()][:8], path) for kind, name, words, path in chain_rows(chain)
    ]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield "\nparams"
    shown = {
        key: value
        for stage in answer["stages"].values()
        for key, value in stage["params"].items()
        if key.partition(".")[0] in ("filters", "selections", "runs", "mixtures") and "." in key
    }
    yield from (f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in shown.items())
    yield "\ncode"
    for stage, commit in answer["commits"].items():
        yield f"  {stage}: recorded in {LOCK} since commit {commit[:12]}" if commit else f"  {stage}: in no commit yet"
    if not answer["faults"]:
        outs = sum(len(stage["outs"]) for stage in answer["stages"].values())
        yield f"\nall links hold: {outs} outs of {len(answer['stages'])} stages are what was recorded"


def _commit(recorded: Recorded, stage: str) -> str:
    """Return the first commit whose dvc.lock holds what a stage wrote; "" where none does."""
    md5 = next((str(entry["md5"]) for entry in recorded.stages.get(stage, {"outs": {}})["outs"].values()), "")
    if not md5:
        return ""
    command = ["git", "log", "--reverse", "--format=%H", f"-S{md5}", "--", LOCK]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return ""
    return done.stdout.partition("\n")[0]
