"""Where runs are stored: MLFLOW_TRACKING_URI, else a SQLite file in the project's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from knowtune.common.secrets import mask
from stages.tracking.addresses import StoreError, address, lock_of
from stages.tracking.paths import hold_lock
from stages.tracking.probe import refusal, unreachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE = (
    "One run per reproduction. Open it for data, base, params and what came out; unfold it for its stages and seeds. "
    "Compare two of them to see which number was changed."
)
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
PASSING = (408, 429)  # codes below 500 of a server that may take the same thing later
CAUSE = re.compile(r"\((?:\w+\.)+\w*Error\) ([^\n]*)")
CAUSED_BY = re.compile(r"\(Caused by (.*)\)$")
QUIET = {  # no telemetry; a server that does not answer is reported in seconds
    "MLFLOW_DISABLE_TELEMETRY": "true",
    RETRIES: "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def open_store(uri: str | None = None) -> MlflowClient:
    """Open the store.

    A fresh database is made under a lock, for two processes that make it at the same time break each other.

    Raises:
        StoreError: it does not answer, or MLflow takes no such address.
    """
    uri = address(uri)
    if why := refusal(uri) or unreachable(uri):
        raise StoreError(why)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    with hold_lock(lock_of("store", mask(uri)), wait=True):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def never_twice() -> AbstractContextManager[None]:
    """Let MLflow send what makes something new once only: where the answer is lost, we look for it before a new try."""
    return _setting(RETRIES, "0")


def at_home(client: MlflowClient) -> AbstractContextManager[None]:
    """Let MLflow look up `models:/` addresses in a client's store: else it takes the one of the working folder."""
    return _setting("MLFLOW_TRACKING_URI", str(client.tracking_uri))


@contextmanager
def _setting(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment inside the context."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def open_experiment(client: MlflowClient, name: str) -> str:
    """Return an experiment's id; it is made when missing, with the artifacts beside a store that is a file."""
    with hold_lock(lock_of("store", mask(client.tracking_uri)), wait=True):
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            if experiment.lifecycle_stage == "deleted":
                client.restore_experiment(experiment.experiment_id)
            return str(experiment.experiment_id)
        artifacts = artifacts_beside(str(client.tracking_uri))
        tags = {"mlflow.note.content": NOTE, "mlflow.experimentKind": "custom_model_development"}
        with never_twice():
            return str(client.create_experiment(name, artifact_location=artifacts, tags=tags))


def artifacts_beside(uri: str) -> str | None:
    """Return where the artifacts of a store that is a file lie; None of a server, which has a place of its own.

    MLflow's own place for them is ./mlruns, below whatever folder the first process worked in.
    """
    scheme, _, path = uri.partition(":///")
    if scheme != "sqlite" or not path or path.startswith(":memory:"):
        return None
    return (Path(unquote(path.partition("?")[0])).absolute().parent / "mlartifacts").as_uri()


def is_passing(error: Exception) -> bool:
    """Say whether a store may take later what it has refused now: it was busy, broken inside, or out of reach."""
    status = getattr(error, "get_http_status_code", lambda: 400)()
    return status >= 500 or status in PASSING or (isinstance(error, OSError) and error.errno is None)


def in_words(error: Exception) -> str:
    """Say in one line what a store stumbled over."""
    # of a database, or of a request; MLflow's, SQLAlchemy's and urllib3's own words stand around it
    cause = CAUSE.search(str(error)) or CAUSED_BY.search(str(error))
    first = cause[1] if cause else str(error).strip().partition("\n")[0][:300]
    if "database schema" in str(error) or "Can't locate revision" in str(error):
        heal = "`.venv/bin/mlflow db upgrade ADDRESS` brings it up to date"
        return f"another version of MLflow wrote it; {heal} ({first})"
    return first if isinstance(error, StoreError) else f"{type(error).__name__}: {first}"
