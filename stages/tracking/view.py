"""The table of runs as a newcomer should meet it: data, base and what came out as columns.

MLflow shows no metric in the table of runs until somebody picks it. A view that is shared by link is a tag of the
experiment, and its columns are chosen here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from stages.tracking.book import Book

NAME = "results"
PRISTINE = "base"
PER_MODEL = 3  # of the report's metrics, in the order of params.yaml


def share_view(book: Book, keys: Iterable[str]) -> None:
    """Choose the columns after a reproduction.

    Args:
        book: of the reproduction.
        keys: of its final metrics, "model.metric".
    """
    first = book.opened["params"].get("evaluate", {}).get("metrics", [])[:PER_MODEL]
    learned = [key for key in keys if not key.startswith(f"{PRISTINE}.")]  # the base is the same in every line
    shown = [key for key in learned if not first or key.rpartition(".")[2] in first]
    columns = ["attributes.`Dataset`", "tags.`base`", *(f"metrics.`{key}`" for key in shown)]
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
    }
    book.client.set_experiment_tag(book.experiment, f"mlflow.sharedViewState.{NAME}", json.dumps(state))


def page(client: MlflowClient, experiment: str) -> str:
    """Return the table's address below a server's; in our view once there is one, after a first reproduction."""
    shared = f"mlflow.sharedViewState.{NAME}" in client.get_experiment(experiment).tags
    view = f"&viewStateShareKey={NAME}" if shared else ""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning{view}"
