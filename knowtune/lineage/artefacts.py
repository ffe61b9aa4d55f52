"""From params and the cards of artefacts to the graph. Tables are not read; the stages' summaries hold their sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowtune.checkpoints.cards import ADAPTER_CARD, CARD, MERGED
from knowtune.common.files import parse_json
from knowtune.lineage.graph import Graph, Node

Find = Callable[[str], Path | None]
SELECTION, MASK, PARITY, NORMS = "selection.json", "mask.safetensors", "parity.json", "norms.json"
OF_ADAPTER = (
    "base", "method", "options", "task", "reweight", "num_rows", "num_steps", "num_trainable", "validation_loss",
    "base_digest", "weights_digest",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """The folders of a pipeline as seen from the project's; members lie below theirs. "" where one is not read."""

    base: str = ""
    prepared: str = ""
    answers: str = ""
    filtered: str = ""
    selected: str = ""
    preserved: str = ""
    adapters: str = ""
    merged: str = ""
    mixed: str = ""
    rehearsed: str = ""


def make_graph(params: Mapping[str, Any], layout: Layout, find: Find) -> Graph:
    """Make the graph of a pipeline.

    Args:
        params: filters, selections, runs and mixtures by name, as params.yaml has them.
        layout: where things lie.
        find: takes a path below one of the folders, and returns where its bytes can be read; None where nowhere.
    """
    return _Maker(params, layout, find).graph


class _Maker:
    """Makes the graph, stage by stage; `cards` are read once and damaged ones say so on their node."""

    def __init__(self, params: Mapping[str, Any], layout: Layout, find: Find) -> None:
        self.params, self.at, self.find, self.graph = params, layout, find, Graph()
        source = dict(params.get("source", {}))
        paths = dict.fromkeys(str(source[key]) for key in ("data", "text", "replay_text") if source.get(key))
        sources = [self.graph.add(Node("source", path, "", path)) for path in paths]
        self.base = self.graph.add(self.of_base(), sources)
        rows = self.at.prepared and f"{self.at.prepared}/train.jsonl"
        self.rows = self.graph.add(Node("rows", "", "prepare", rows), [*sources, self.base])
        self.rows.facts = self.card(self.rows, self.at.prepared, "summary.json")
        answers = self.graph.add(Node("answers", "", "answers", self.at.answers), [self.base, self.rows])
        for name in self.section("filters"):
            self.graph.add(self.of_filter(name), [self.rows, answers])
        for name, chosen in self.section("selections").items():
            self.add_selection(name, chosen)
        for name, run in self.section("runs").items():
            self.add_run(name, run)
        for name, mixture in self.section("mixtures").items():
            self.add_mixture(name, mixture)
        for adapter in self.graph.of("adapter")[:1] if not self.at.base else []:  # whose card names it too
            known = {"identity": "base", "digest": "base_digest"}
            self.base.facts |= {key: adapter.facts[own] for key, own in known.items() if own in adapter.facts}

    def section(self, key: str) -> Mapping[str, Mapping[str, Any]]:
        """Return a family's members."""
        return dict(self.params.get(key) or {})

    def card(self, node: Node, folder: str, name: str) -> dict[str, Any]:
        """Read a card; where that fails, the node says why."""
        if not folder:
            return {}
        path = self.find(f"{folder}/{name}")
        try:
            value = None if path is None else parse_json(path)
        except (OSError, ValueError, RecursionError) as error:
            node.faults.append(f"{folder}/{name}: not readable ({error})")
            return {}
        if not isinstance(value, dict):
            node.faults.append(f"{folder}/{name}: {'missing' if path is None else 'no JSON object'}")
            return {}
        return value

    def of_base(self) -> Node:
        """Describe the base by its card."""
        node = Node("base", "", "base", self.at.base)
        card = self.card(node, self.at.base, CARD)
        node.facts = {key: card[key] for key in ("identity", "origin", "digest", "architecture") if key in card}
        return node

    def of_filter(self, name: str) -> Node:
        """Describe a filter by what it kept and why it dropped."""
        node = Node("filter", name, f"filter@{name}", _below(self.at.filtered, name))
        summary = self.card(node, node.path, "summary.json")
        node.facts = {**self.params["filters"][name]}
        node.facts |= {key: summary[key] for key in ("rows", "reasons") if key in summary}
        return node

    def add_selection(self, name: str, chosen: Mapping[str, Any]) -> None:
        """Add a selection's seeds."""
        above = [self.base, *self.graph.of("filter", chosen["filter"])]
        for seed in sorted(chosen.get("seeds") or [0]):
            folder = _below(self.at.selected, name, seed)
            node = Node("selection", f"{name}/seed-{seed}", f"select@{name}", folder)
            card = self.card(node, folder, SELECTION)
            last = (card.get("trace") or [{}])[-1]
            node.facts = {"filter": chosen["filter"], "strategy": chosen["strategy"], "seed": seed}
            node.facts |= {key: card[key] for key in ("options", "adapter", "base_digest") if key in card}
            node.facts |= {key: last[key] for key in ("num_rows", "num_parameters", "mass_kept") if key in last}
            node.facts["mask"] = f"{folder}/{MASK}" if card.get("mask") else None
            node.facts |= _helpers(_protected(chosen) + ["validation"] * bool(chosen.get("trial")))
            self.graph.add(node, above)

    def add_run(self, name: str, run: Mapping[str, Any]) -> None:
        """Add a run's adapters and its merged models; with `merge.keep: best` only one seed is merged."""
        kept = None
        if run.get("preserve"):
            kept = Node("kept", name, f"preserve@{name}", _below(self.at.preserved, name))
            kept.facts = {key: value for key, value in run["preserve"].items() if value is not None}
            kept.facts |= {key: v for key, v in self.card(kept, kept.path, CARD_OF_KEPT).items() if key == "sources"}
            self.graph.add(kept, [self.rows, self.base])
        selections = self.graph.of("selection", run["selection"])
        parity = Node("merged", name, f"merge@{name}", _below(self.at.merged, name))
        parities = self.card(parity, parity.path, PARITY)
        for seed in run.get("seeds") or [0]:
            folder = _below(self.at.adapters, name, seed)
            adapter = Node("adapter", f"{name}/seed-{seed}", f"train@{name}", folder)
            card = self.card(adapter, folder, ADAPTER_CARD)
            adapter.facts = {"selection": run["selection"], "train_on": run.get("train_on", "all"), "seed": seed}
            adapter.facts |= {key: card[key] for key in OF_ADAPTER if key in card}
            chosen = selections[seed % len(selections)] if selections else None  # as `read_selection` takes it
            self.graph.add(adapter, [chosen, kept, self.base])
            if self.at.merged and f"seed-{seed}" not in parities and parities:
                continue
            merged = Node("merged", f"{name}/seed-{seed}", f"merge@{name}", _below(self.at.merged, name, seed))
            merged.faults += parity.faults
            card = self.card(merged, merged.path, MERGED)
            merged.facts = {key: card[key] for key in ("kind", "base_digest", "weights_digest") if key in card}
            merged.facts |= {"seed": seed, "parity": parities.get(f"seed-{seed}", {}).get("largest")}
            self.graph.add(merged, [adapter, self.base])

    def add_mixture(self, name: str, mixture: Mapping[str, Any]) -> None:
        """Add a mixture's models, named after the first run's.

        The n-th of each run's merged ones become its n-th, or all of all runs the only one.
        """
        groups = [self.graph.of("merged", run) for run in mixture.get("from", [])]
        everything = [node for of_run in groups for node in of_run]
        for sources in [everything] if mixture.get("seeds") == "all" and everything else zip(*groups, strict=False):
            seed = sources[0].name.partition("/")[2]
            folder = _below(self.at.mixed, name)
            node = Node("mixture", f"{name}/{seed}", f"mix@{name}", folder and f"{folder}/{seed}")
            card = self.card(node, node.path, MERGED)
            node.facts = {key: card[key] for key in ("kind", "base_digest", "weights_digest") if key in card}
            node.facts |= {key: value for key, value in mixture.items() if value is not None}
            several = isinstance((mixture.get("options") or {}).get("alpha"), list)  # of which one is chosen
            node.facts |= _helpers(["validation", "replay"] * several)
            self.graph.add(node, [*sources, self.base])


CARD_OF_KEPT = "card.json"


def _protected(selection: Mapping[str, Any]) -> list[str]:
    """List the sources that a selection protects, of known, text, self."""
    sources = ((selection.get("options") or {}).get("protect") or {}).get("from") or []
    return [sources] if isinstance(sources, str) else list(sources)


def _helpers(tables: list[str]) -> dict[str, list[str]]:
    """Say which tables help to choose, beside the rows that are learned; no fact where none does."""
    return {"chosen_on": tables} if tables else {}


def _below(folder: str, member: str, seed: int | None = None) -> str:
    """Join; "" stays ""."""
    return "/".join([folder, member, *([] if seed is None else [f"seed-{seed}"])]) if folder else ""
