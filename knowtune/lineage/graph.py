"""The graph of where things come from: artefacts, and arrows from what was read to what was made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

KINDS = ("source", "base", "rows", "answers", "filter", "selection", "kept", "adapter", "merged", "mixture", "version")


@dataclass
class Node:
    """An artefact.

    Args:
        kind: one of `KINDS`.
        name: of the member and seed where it has them, e.g. "lora/seed-0".
        stage: that makes it, as DVC says it, e.g. "train@lora"; "" of what no stage makes.
        path: where it lies, seen from the project's folder.
        facts: what its card and its stage's params say, as plain values.
        faults: what is wrong with it, a sentence each.
    """

    kind: str
    name: str
    stage: str = ""
    path: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """What arrows call it."""
        return f"{self.kind} {self.name}".strip()

    @property
    def member(self) -> str:
        """The name without the seed."""
        return self.name.partition("/")[0]

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        plain = {"id": self.id, "kind": self.kind, "name": self.name, "stage": self.stage, "path": self.path}
        return {**plain, "facts": self.facts, "faults": self.faults}


@dataclass
class Graph:
    """Nodes by id in the order in which they are made, and arrows from id to id."""

    nodes: dict[str, Node] = field(default_factory=dict)
    arrows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, node: Node, made_of: Iterable[Node | None] = ()) -> Node:
        """Add a node and the arrows that lead to it."""
        self.nodes[node.id] = node
        self.arrows += [(source.id, node.id) for source in made_of if source is not None]
        return node

    def of(self, kind: str, member: str = "") -> list[Node]:
        """List the nodes of a kind, those of one member where it is named."""
        return [node for node in self.nodes.values() if node.kind == kind and member in ("", node.member)]

    def back(self, start: Iterable[Node]) -> Graph:
        """Return what some nodes were made of, themselves included."""
        return self._reached(start, [(target, source) for source, target in self.arrows])

    def forward(self, start: Iterable[Node]) -> Graph:
        """Return what was made of some nodes, themselves included."""
        return self._reached(start, self.arrows)

    def _reached(self, start: Iterable[Node], steps: list[tuple[str, str]]) -> Graph:
        """Return the part of the graph that steps lead to."""
        todo, reached = [node.id for node in start], set[str]()
        while todo:
            here = todo.pop()
            if here not in reached:
                reached.add(here)
                todo += [there for source, there in steps if source == here]
        nodes = {name: node for name, node in self.nodes.items() if name in reached}
        return Graph(nodes, [(a, b) for a, b in self.arrows if a in reached and b in reached])

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "nodes": [node.as_dict() for node in self.nodes.values()],
            "arrows": [{"from": source, "to": target} for source, target in self.arrows],
        }
