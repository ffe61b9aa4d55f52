"""Where runs are stored: MLFLOW_TRACKING_URI, else a SQLite file in the project's folder.

`python -m stages.tracking.store` makes it ready and prints its address; with `--page`, the address of the table of runs
below that of a server.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from stages.tracking.places import locked, project_root

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE = (
    "One run per reproduction. Open it for data, base, params and what came out; unfold it for its stages and seeds. "
    "Compare two of them to see which number was changed."
)
QUIET = {  # no telemetry; a server that does not answer is told of in seconds
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def address(uri: str | None = None) -> str:
    """Return the store's URI: the one given, else the environment's, else the project's own file."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root() / 'mlflow.db'}"


def open_store(uri: str | None = None) -> MlflowClient:
    """Open the store.

    A fresh database is made under a lock, for two processes that make it at the same time break each other.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    with locked("store", wait=True):
        client = MlflowClient(address(uri))
        client.search_experiments(max_results=1)
    return client


def open_experiment(client: MlflowClient, name: str) -> str:
    """Return an experiment's id; it is made when missing, with the artifacts beside the project's own store."""
    with locked("store", wait=True):
        found = client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        own = client.tracking_uri == f"sqlite:///{project_root() / 'mlflow.db'}"
        place = (project_root() / "mlartifacts").as_uri() if own else None
        tags = {"mlflow.note.content": NOTE, "mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(name, artifact_location=place, tags=tags))


def main() -> None:
    """Print an address."""
    import argparse

    from stages.core.pipeline import quick_yaml
    from stages.tracking.view import page

    parser = argparse.ArgumentParser(prog="python -m stages.tracking.store", description=__doc__)
    parser.add_argument("--page", action="store_true", help="where the table of runs is, below a server's address")
    wanted = parser.parse_args()
    client = open_store()
    if wanted.page:
        name = quick_yaml(Path("params.yaml"))["tracking"]["experiment"]
        print(page(open_experiment(client, name)))
    else:
        print(client.tracking_uri)


if __name__ == "__main__":
    main()
