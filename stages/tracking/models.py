"""A trained seed as an MLflow model, so that it can be loaded back by one line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.checkpoints.cards import CARD
from knowtune.registry import member_class
from knowtune.serving import MAX_NEW_TOKENS
from knowtune.tasks import TASKS
from stages.core.pipeline import flatten, quick_yaml
from stages.tracking.book import params_of
from stages.tracking.store import never_twice

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

    from stages.tracking.numbers import Seed

LARGEST = 2 * 2**30  # bytes; a larger one (a whole checkpoint) stays with DVC, whose cache holds it already
SAID = ("method", "base", "base_digest", "weights_digest")  # of the card, as tags of the model
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "pandas")


def log_adapter(client: MlflowClient, run_id: str, name: str, seed: Seed, note: Mapping[str, Any]) -> None:
    """Log an adapter's folder as a model, once: what a try before has begun is gone on with.

    Args:
        client: of the store.
        run_id: the seed's run; its params and metrics are shown with the model.
        name: of the model.
        seed: the adapter's folder and card.
        note: of the stage that made it.
    """
    if seed.adapter is None or not isinstance(seed.card.get("example"), Mapping):
        return
    size = sum(file.stat().st_size for file in seed.adapter.rglob("*") if file.is_file())
    if size > LARGEST:
        client.set_tag(run_id, "model", f"{size / 1e9:.1f} GB, too large to copy; DVC's cache holds it (dvc.json)")
        return
    config = _config(Path(note["cwd"]), note["deps"])
    client.log_batch(run_id, params=params_of((key.replace(".", "/"), str(value)) for key, value in flatten(config)))
    uri = log_model(client, run_id, name, {"adapter": seed.adapter}, seed, config, note["ended"])
    client.set_tag(run_id, "model", uri)


def log_model(
    client: MlflowClient,
    run_id: str,
    name: str,
    folders: Mapping[str, Path],
    seed: Seed,
    config: Mapping[str, Any],
    when: float,
    work: Path | None = None,
) -> str:
    """Log a model with signature and example, once: what a try before has begun is gone on with.

    Args:
        client: of the store.
        run_id: the run that it belongs to.
        name: of the model.
        folders: the model's, and those that travel with it, by the name that `served.py` knows them by.
        seed: its card and metrics.
        config: what `served.py` opens it with: base, compute, columns.
        when: in seconds since 1970.
        work: a folder with room for a copy; the system's own for such things by default.

    Returns:
        Its address.
    """
    model = _open_model(client, run_id, name, seed, when)
    if model.status != "READY":
        with tempfile.TemporaryDirectory(dir=work) as folder:
            _save(Path(folder) / "model", model, run_id, folders, seed.card, config)
            client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
        client.finalize_logged_model(model.model_id, "READY")
    return f"models:/{model.model_id}"


def _open_model(client: MlflowClient, run_id: str, name: str, seed: Seed, when: float) -> LoggedModel:
    """Return the model of a run, which may be without its files yet; MLflow's own `log_model` makes one each time."""
    from mlflow.entities import LoggedModelOutput, Metric

    run = client.get_run(run_id)
    experiment = run.info.experiment_id
    begun = client.search_logged_models([experiment], f"source_run_id = '{run_id}'", max_results=1)
    if begun:
        model = begun[0]
    else:
        tags = {key: str(seed.card[key]) for key in SAID if key in seed.card}
        with never_twice():
            model = client.create_logged_model(experiment, name, run_id, tags=tags, params=run.data.params)
    if not (run.outputs and run.outputs.model_outputs):
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    named = {"model_id": model.model_id, "run_id": run_id}
    client.log_batch(run_id, [Metric(key, value, int(when * 1000), 0, **named) for key, value in seed.metrics.items()])
    return model


def _save(
    folder: Path,
    model: LoggedModel,
    run_id: str,
    folders: Mapping[str, Path],
    card: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    """Write a model's files. The example is not tried out: that would load the base, seconds for each seed."""
    import mlflow
    import pandas as pd
    from mlflow.models import Model

    example = {key: value for key, value in card["example"].items() if value}  # most tasks have no second text
    place: dict[str, Any] = {
        "artifact_path": model.artifact_location,
        "model_uuid": model.model_id,
        "model_id": model.model_id,
    }
    mlflow.pyfunc.save_model(
        path=str(folder),
        mlflow_model=Model(**place, run_id=run_id),
        python_model=str(Path(__file__).with_name("served.py")),
        artifacts={key: str(path) for key, path in folders.items()},
        signature=_signature(example, "double" if _is_numeric(card) else "string"),
        input_example=pd.DataFrame([example]),
        pip_requirements=[f"{library}=={version(library)}" for library in LIBRARIES],
        model_config=config,
    )


def _config(cwd: Path, deps: Iterable[str]) -> dict[str, Any]:
    """Return what the model is loaded with."""
    return {"base": str(base_folder(cwd, deps)), "compute": compute_of(cwd), "columns": columns_of(cwd)}


def columns_of(cwd: Path) -> dict[str, Any] | None:
    """Return the mapping of the training data."""
    columns: dict[str, Any] | None = quick_yaml(cwd / "params.yaml")["source"].get("columns")
    return columns


def base_folder(cwd: Path, deps: Iterable[str]) -> Path:
    """Return the folder that holds the base's weights: a dep with its card, or the one that params.yaml names."""
    for folder in (cwd / name for name in deps):
        if (folder / CARD).is_file() and (folder / "config.json").is_file():
            return folder.resolve()
    return (cwd / str(quick_yaml(cwd / "params.yaml")["base"]["path"])).resolve()


def compute_of(cwd: Path) -> dict[str, Any]:
    """Return where models run, as `knowtune.models.compute.Compute` takes it."""
    params = quick_yaml(cwd / "params.yaml")
    return {**params["compute"], "threads": params["threads"]}


def _is_numeric(card: Mapping[str, Any]) -> bool:
    """Say whether the card's task answers with numbers."""
    return bool(member_class(TASKS, "task", card["task"]["kind"]).numeric)


def _signature(example: Mapping[str, str], answer: str) -> ModelSignature:
    """Say what goes in and what comes out, an answer of the given type."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    names = [*example, *(name for name in ("layout", "question") if name not in example)]
    inputs = Schema([ColSpec("string", name, required=name == "text_pair") for name in names])
    outputs = Schema([ColSpec(answer, "answer")])
    return ModelSignature(inputs, outputs, ParamSchema([ParamSpec("max_new_tokens", "long", MAX_NEW_TOKENS)]))
