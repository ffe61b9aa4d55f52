"""What is known of a pipeline: what was recorded, where the bytes are, and the graph; as it is or as it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from knowtune.common.errors import UserError
from knowtune.lineage.artefacts import make_graph
from knowtune.lineage.graph import Graph, Node
from knowtune.lineage.row import Rows
from stages.lineage.objects import Objects
from stages.lineage.recorded import Recorded, from_origin, layout, read_recorded

if TYPE_CHECKING:
    from stages.tracking.origin import Origin


@dataclass(frozen=True)
class Known:
    """A pipeline as it was recorded.

    Args:
        recorded: digests and params.
        objects: the bytes.
        graph: of all that was made.
        past: whether it is a model's past, and the folder may hold something else by now.
    """

    recorded: Recorded
    objects: Objects
    graph: Graph
    past: bool = False

    @property
    def rows(self) -> Rows:
        """Its tables."""
        return Rows(self.graph, layout(), self.objects.find)


def known_here(folder: Path) -> Known:
    """Read what the project or workspace holds now.

    Raises:
        UserError: nothing was made yet, or dvc.lock is damaged.
    """
    return _known(read_recorded(folder), folder)


def known_of(origin: Origin, folder: Path) -> tuple[Known, Node]:
    """Read what a registered model was made of: from the folder where it is still the same, else from DVC's cache.

    Returns:
        What is known, and the model's node: a version, made of the adapter or merged model that was registered.

    Raises:
        UserError: what was registered is no model of this pipeline.
    """
    known = replace(_known(from_origin(origin), folder), past=True)
    made_of = next((node for node in known.graph.nodes.values() if node.path and node.path == origin.path), None)
    if made_of is None:
        raise UserError(f"{origin.name}: it was made as {origin.path or 'nothing that is known'}, no model of a run")
    facts = {"aliases": origin.aliases, "path": origin.path, **origin.runs.get("", {})}
    return known, known.graph.add(Node("version", origin.name, facts=facts), [made_of])


def _known(recorded: Recorded, folder: Path) -> Known:
    """Make the graph of what was recorded."""
    objects = Objects(folder, recorded.outs)
    return Known(recorded, objects, make_graph(recorded.params, layout(), objects.find))
