"""From a row forward: what became of it here, and which registered versions hold it, whatever lies here now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from knowtune.common.errors import UserError
from stages.lineage.known import Known, known_of
from stages.tracking.origin import Origins


def trace_row(known: Known, wanted: str) -> dict[str, Any]:
    """Say what became of a row; `faults` are what was looked for and is gone.

    Raises:
        UserError: no row has this id or text, or several have.
    """
    rows = known.rows
    return {**rows.trace(rows.look_up(wanted)), "faults": list(known.objects.gone.values())}


def versions_with(origins: Origins, folder: Path, wanted: str) -> Iterator[dict[str, Any]]:
    """Say of each registered version whether it learned a row.

    Args:
        origins: of the store that holds them.
        folder: the project or a workspace.
        wanted: the row's id.

    Yields:
        `name`, `aliases`, `path`; `saw`, see `knowtune.lineage.row`; `helped`, whether rows, parameters or alpha were
        chosen with it; `faults`, why that is not known.
    """
    for uri in origins.versions():
        try:
            known, node = known_of(origins.of(uri), folder)
        except UserError as error:
            yield {"name": uri, "aliases": [], "path": "", "saw": [], "helped": False, "faults": [str(error)]}
            continue
        rows = known.rows
        made_of = known.graph.back([node])
        runs = [rows.run_of(adapter, wanted) for adapter in made_of.of("adapter")]
        helped = bool(rows.helped(made_of, wanted))
        ways = list(dict.fromkeys(way for run in runs for way in run["saw"]))
        gone = list(known.objects.gone.values()) if any(run["unknown"] for run in runs) else []
        faults = [f"{node.name}: {fault}" for fault in gone]
        known.objects.remember()
        told = {key: node.facts[key] for key in ("aliases", "path")}
        yield {"name": node.name, **told, "saw": ways, "helped": helped, "faults": faults}
