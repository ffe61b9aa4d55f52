"""Hold what is recorded against itself and against the files: links that are missing, stale or tampered with."""

from __future__ import annotations

from collections.abc import Iterator

from knowtune.lineage.graph import Graph, Node
from stages.lineage.objects import Objects
from stages.lineage.recorded import Recorded
from stages.tracking.digests import digest

RECORD = "outputs.safetensors"  # beside an adapter's weights, and none of them (knowtune.training.outputs)


def check_graph(graph: Graph, recorded: Recorded, objects: Objects, *, past: bool = False) -> None:
    """Write onto the nodes what is wrong with them.

    Args:
        graph: the part of it that is asked for.
        recorded: what it was made of.
        objects: the bytes.
        past: whether the folder may hold something else by now; then DVC's cache is enough, and sources are git's.
    """
    for node in graph.nodes.values():
        found = _past_faults(node, recorded, objects) if past else _faults(node, graph, recorded, objects)
        node.faults += [fault for fault in found if fault not in node.faults]


def _past_faults(node: Node, recorded: Recorded, objects: Objects) -> Iterator[str]:
    """Check a node of a model's past: its bytes are somewhere, and every link to them was recorded."""
    if node.stage and node.stage not in recorded.stages:
        yield f"{node.stage}: MLflow holds no run of it that wrote what was read, so nothing says what it was made of"
    for out in recorded.stages.get(node.stage, {"outs": {}})["outs"]:
        yield from objects.lost(out)


def _faults(node: Node, graph: Graph, recorded: Recorded, objects: Objects) -> Iterator[str]:
    """Check one node."""
    stage = recorded.stages.get(node.stage)
    if stage is None:
        if node.stage:
            yield f"{node.stage}: nothing is recorded of it; it has not run, `make run` does it"
        elif node.path:
            yield from _source_faults(node.path, recorded, objects)
        return
    yield from stale_links(node.stage, recorded)
    for out in stage["outs"]:
        yield from objects.faults(out)
    yield from _card_faults(node, graph, objects)


def stale_links(name: str, recorded: Recorded) -> Iterator[str]:
    """Name what a stage read that has been written anew since."""
    outs = recorded.outs
    for path, digest_read in recorded.stages[name]["deps"].items():
        written = outs.get(path)
        if written is not None and written["md5"] != digest_read["md5"]:
            yield (
                f"{name} read {path} as {digest_read['md5'][:8]}, and {recorded.producer(path)} has written "
                f"{written['md5'][:8]} since; `make run` brings it up to date"
            )


def _source_faults(path: str, recorded: Recorded, objects: Objects) -> Iterator[str]:
    """Compare a source with what every stage read of it."""
    here = objects.folder / path
    read = {name: stage["deps"][path]["md5"] for name, stage in recorded.stages.items() if path in stage["deps"]}
    if not here.exists():
        yield f"{path}: not there, and DVC keeps no sources"
        return
    found = digest(here, path, objects.hidden, objects.md5)["md5"]
    odd = [name for name, md5 in read.items() if md5 != found]
    if odd:
        yield f"{path}: changed since {', '.join(odd)} read it ({read[odd[0]][:8]} then, {found[:8]} now)"


def _card_faults(node: Node, graph: Graph, objects: Objects) -> Iterator[str]:
    """Compare the digests that cards carry: of the base, of the weights, of the adapter that was merged."""
    base = next((other.facts.get("digest") for other in graph.of("base")), None)
    own = node.facts.get("base_digest")
    if own and base and own != base:
        yield f"{node.path}: made on the base {own[:8]}, and the base is {base[:8]}"
    weights = node.facts.get("weights_digest")
    composed = node.facts.get("kind") == "composed"
    if weights and (node.kind in ("adapter", "mixture") or composed) and (objects.folder / node.path).is_dir():
        found = objects.weights_digest(node.path, RECORD)
        if found != weights:
            yield f"{node.path}: its card says weights {weights[:8]}, its files are {found[:8] or 'not there'}"
    if node.kind == "merged":
        adapter = graph.nodes.get(f"adapter {node.name}")
        made_from = adapter.facts.get("weights_digest") if adapter else None
        if weights and made_from and weights != made_from:
            yield f"{node.path}: merged from the weights {weights[:8]}, and the adapter has {made_from[:8]}"
