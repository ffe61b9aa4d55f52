"""Make models that an older version logged loadable again: put today's served.py beside them.

    python -m stages.tracking --renew

Since `knowtune.serving` exists, what MLflow keeps beside a model imports that module alone, so such a model needs no
renewal. Models from before it import modules of the library that have moved. Their adapters are as good as ever: only
that one file is replaced, in the store that MLFLOW_TRACKING_URI names, else in the project's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

FILE = Path(__file__).with_name("served.py")


def renew(client: MlflowClient, experiment: str) -> list[str]:
    """Replace the file of each model of an experiment that has an older one.

    Args:
        client: of the store.
        experiment: its name.

    Returns:
        Ids of the models that were renewed.
    """
    from mlflow.artifacts import download_artifacts

    renewed = []
    for model in _models(client, experiment):
        if FILE.name not in {file.path for file in client.list_logged_model_artifacts(model.model_id)}:
            continue
        with TemporaryDirectory() as folder:
            artifact = f"{model.artifact_location}/{FILE.name}"
            kept = download_artifacts(artifact, dst_path=folder, tracking_uri=client.tracking_uri)
            if Path(kept).read_bytes() == FILE.read_bytes():
                continue
        client.log_model_artifact(model.model_id, str(FILE))
        renewed.append(str(model.model_id))
    return renewed


def _models(client: MlflowClient, experiment: str) -> Iterator[Any]:
    """Yield the logged models of an experiment, page by page."""
    known = client.get_experiment_by_name(experiment)
    token: str | None = ""
    while known is not None and token is not None:
        page = client.search_logged_models([known.experiment_id], page_token=token or None)
        yield from page
        token = page.token or None
