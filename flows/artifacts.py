"""Tables on the run's page: what ran, was skipped or failed, and the metrics of the models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from cli.run import report_folder
from flows.graph import Node
from flows.states import Line

Row = dict[str, Any]
DIGITS = 4  # after the point, of a metric


def publish(folder: Path, nodes: Sequence[Node], lines: Sequence[Line]) -> None:
    """Put the tables on the page of the flow run that is under way.

    Args:
        folder: the project or a workspace.
        nodes: the graph, which says where metrics lie.
        lines: what became of each stage.
    """
    rows = [
        {
            "stage": line.stage,
            "state": line.state,
            "seconds": round(line.seconds, 1),
            "note": line.note.partition("\n")[0],
        }
        for line in lines
    ]
    create_table_artifact(rows, key="stages", description="what ran, was skipped, failed")
    good = {line.stage for line in lines if line.good}
    files = [path for node in nodes if node.address in good for path in node.metrics if path.is_file()]
    if metrics := [row for path in files for row in metric_rows(json.loads(path.read_text(encoding="utf-8")))]:
        create_table_artifact(metrics, key="metrics", description="every metric of every model; means over seeds")
        board = folder / report_folder() / "leaderboard.md"
        if board.is_file():
            create_markdown_artifact(board.read_text(encoding="utf-8"), key="leaderboard", description="with intervals")


def metric_rows(metrics: Row) -> list[Row]:
    """Turn a metrics file, a mapping of models to their metrics, into one row per model.

    A file of plain numbers becomes one row.
    """
    if all(isinstance(value, dict) for value in metrics.values()):
        return [{"name": name, **_flat(values)} for name, values in metrics.items()]
    return [_flat(metrics)]


def _flat(values: Row, prefix: str = "") -> Row:
    """Give every number below a mapping, under the names that lead to it, joined by dots."""
    flat: Row = {}
    for name, value in values.items():
        shown = round(value, DIGITS) if isinstance(value, float) else value
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": shown}
    return flat
