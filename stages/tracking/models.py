"""A trained seed as an MLflow model, so that it can be loaded back by one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from knowtune.checkpoints.cards import CARD
from knowtune.registry import member_class
from knowtune.serving import MAX_NEW_TOKENS
from knowtune.tasks import TASKS
from stages.core.pipeline import quick_yaml

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

    from stages.tracking.numbers import Seed

LARGEST = 2 * 2**30  # bytes; a larger one (a whole checkpoint) stays with DVC, whose cache holds it already
SAID = ("method", "base", "base_digest", "weights_digest")  # of the card, as tags of the model
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "pandas")


def log_adapter(client: MlflowClient, run_id: str, name: str, seed: Seed, note: Mapping[str, Any]) -> None:
    """Log an adapter's folder as a model, unless the run has one already.

    Args:
        client: of the store.
        run_id: the seed's run; its params and metrics are shown with the model.
        name: of the model.
        seed: the adapter's folder and card.
        note: of the stage that made it.
    """
    if seed.adapter is None or not isinstance(seed.card.get("example"), Mapping):
        return
    import mlflow
    import pandas as pd
    from mlflow.models import Model

    size = sum(file.stat().st_size for file in seed.adapter.rglob("*") if file.is_file())
    if size > LARGEST:
        client.set_tag(run_id, "model", f"{size / 1e9:.1f} GB, too large to copy; DVC's cache holds it (dvc.json)")
        return
    run = client.get_run(run_id)
    if run.outputs is not None and run.outputs.model_outputs:
        return
    cwd = Path(note["cwd"])
    example = {key: value for key, value in seed.card["example"].items() if value}  # most tasks have no second text
    mlflow.set_tracking_uri(client.tracking_uri)
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        info = Model.log(
            artifact_path=None,
            name=name,
            flavor=SimpleNamespace(__name__="mlflow.pyfunc", save_model=_save),
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"adapter": str(seed.adapter)},
            signature=_signature(example, "double" if _is_numeric(seed.card) else "string"),
            input_example=pd.DataFrame([example]),
            pip_requirements=[f"{library}=={version(library)}" for library in LIBRARIES],
            model_config={
                "base": str(base_folder(cwd, note["deps"])),
                "compute": compute_of(cwd),
                "columns": quick_yaml(cwd / "params.yaml")["source"].get("columns"),
            },
            tags={key: str(seed.card[key]) for key in SAID if key in seed.card},
            validate_serving_input=False,
        )
    client.set_tag(run_id, "model", info.model_uri)


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


def _save(validate_serving_input: bool, **settings: Any) -> None:
    """Save as MLflow does. Trying the example out would load the base and torch, seconds for every seed."""
    import mlflow

    mlflow.pyfunc.save_model(**settings)


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
