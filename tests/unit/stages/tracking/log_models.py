"""Log trained seeds into a fresh MLflow store, load them back and predict; a process of its own, for MLflow warns.

    python -W ignore -m tests.unit.stages.tracking.log_models < what.json

Standard input: `kept`, for each logged model its folder, the base and rows; `store` (an empty folder), `base` and
`adapters` (folder and rows of each trained seed, which is logged); `older`: files of older versions, each of which is
put in place of the first model's served.py. The first time there is no room for files, so that the first model is
logged half, and then gone on with. Standard output: what is predicted for `kept` and `logged`; `first`, the id of the
first model; `statuses` of all models that the store then has; `older`: for each file what the model says with it, what
`stages.tracking.renew` has renewed, and what it says then. An error is its line.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from ruamel.yaml import YAML

from stages.tracking.models import log_adapter
from stages.tracking.numbers import Seed
from stages.tracking.renew import renew


def log(store: Path, base: Path, adapters: list[Path]) -> list[Path]:
    """Log adapters as the tracker does; returns the folders of the models."""
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    params = {
        "compute": {"device": "cpu", "dtype": "float32", "quantize": "none"}, "threads": 1,
        "base": {"path": str(base)}, "source": {}, "tracking": {"experiment": "knowtune"},
    }  # fmt: skip
    YAML().dump(params, store / "params.yaml")
    experiment = client.create_experiment("knowtune", artifact_location=(store / "artifacts").as_uri())
    folders = []
    room = store / "artifacts/models"
    room.parent.mkdir()
    room.write_text("a file, where a folder has to be")
    for adapter in adapters:
        run = client.create_run(experiment).info.run_id
        seed = Seed(adapter=adapter, card=json.loads((adapter / "knowtune.json").read_text()))
        if room.is_file():
            with contextlib.suppress(OSError):
                log_adapter(client, run, "seed-0", seed, {"cwd": str(store), "deps": [], "ended": 1.0})
            room.unlink()
            log_adapter(client, run, "seed-0", seed, {"cwd": str(store), "deps": [], "ended": 1.0})
        log_adapter(client, run, "seed-0", seed, {"cwd": str(store), "deps": [], "ended": 1.0})
        model = client.get_logged_model(client.get_run(run).data.tags["model"].removeprefix("models:/"))
        folders.append(Path(model.artifact_location.removeprefix("file://")))
    return folders


def predict(model: Path, base: Path, rows: list[dict[str, str]]) -> Any:
    """Load a model by MLflow and predict."""
    try:
        loaded = mlflow.pyfunc.load_model(str(model), model_config={"base": str(base)})
        return loaded.predict(pd.DataFrame(rows), params={"max_new_tokens": 8})["answer"].tolist()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    """Do what standard input says."""
    what = json.load(sys.stdin)
    base, store = Path(what["base"]), Path(what["store"])
    with contextlib.redirect_stdout(sys.stderr):
        kept = [predict(Path(model), Path(on), rows) for model, on, rows in what["kept"]]
        models = log(store, base, [Path(folder) for folder, _ in what["adapters"]])
        logged = [predict(model, base, rows) for model, (_, rows) in zip(models, what["adapters"], strict=True)]
        older = []
        for file in what["older"]:
            shutil.copyfile(file, models[0] / "served.py")
            before = predict(models[0], base, what["adapters"][0][1])
            renewed = renew(MlflowClient(f"sqlite:///{store / 'mlflow.db'}"), "knowtune")
            older.append([before, renewed, predict(models[0], base, what["adapters"][0][1])])
        client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
        statuses = [str(model.status.value) for model in client.search_logged_models(["1"])]
    first = models[0].parent.name
    print(json.dumps({"kept": kept, "logged": logged, "first": first, "statuses": statuses, "older": older}))


if __name__ == "__main__":
    main()
