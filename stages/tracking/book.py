"""The open book of one reproduction: its store, experiment and parent run, and how a run is opened once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stages.core.pipeline import flatten
from stages.tracking.addresses import address_of
from stages.tracking.store import never_twice, open_experiment, open_store
from stages.tracking.sweeps import entry_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

LONGEST_PARAM, LONGEST_TAG = 6000, 8000  # characters, MLflow's bounds
Rows = tuple[str | None, str | None]
LINE = 250  # characters of an error that are shown as a tag; the whole of it is an artifact


@dataclass(frozen=True)
class Book:
    """Where one reproduction is written in the store."""

    client: MlflowClient
    experiment: str
    parent: str
    opened: Mapping[str, Any]


def open_client(opened: Mapping[str, Any]) -> MlflowClient:
    """Open the store of a reproduction."""
    return open_store(address_of(opened["uri"]))


def open_book(opened: Mapping[str, Any]) -> Book:
    """Open a reproduction's parent run, the same one again after an interruption."""
    client = open_client(opened)
    experiment = open_experiment(client, opened["experiment"])
    when = datetime.fromtimestamp(opened["started"], UTC)
    changed, sweep = opened["changed"], opened.get("sweep")
    above = _open_sweep(client, experiment, sweep, opened["started"]) if sweep else ""
    if sweep and "point" not in sweep:  # the process of the sweep itself
        client.update_run(above, status="RUNNING")
        return Book(client, experiment, above, opened)
    tags = {
        "kind": "reproduction",
        "entry": entry_of(sweep) if sweep else opened["key"],
        "command": " ".join(opened["command"]),
        "git.commit": opened["commit"] or "no git here",
        "git.dirty": "unknown" if changed is None else str(bool(changed)).lower(),
        "git.changed": changed or "",
        "mlflow.source.name": " ".join(opened["command"][-2:]) or "dvc repro",
        "mlflow.source.type": "LOCAL",
        **({"mlflow.source.git.commit": opened["commit"]} if opened["commit"] else {}),
        **({"sweep": sweep["name"], "mlflow.parentRunId": above} if sweep else {}),
    }
    name = sweep["label"][:LINE] if sweep else f"reproduce {when:%Y-%m-%d %H:%M:%S}"
    parent = open_run(client, experiment, name, opened["started"], tags)
    client.log_batch(parent, params=params_of(flatten(opened["params"])))
    client.log_dict(parent, dict(opened["params"]), "params.yaml")
    return Book(client, experiment, parent, opened)


def _open_sweep(client: MlflowClient, experiment: str, sweep: Mapping[str, str], started: float) -> str:
    """Return the run of a sweep, the same one for all its points and after an interruption."""
    name = f"sweep {sweep['name']}"
    tags = {"kind": "sweep", "entry": entry_of({"id": sweep["id"]}), "mlflow.source.name": name}
    return open_run(client, experiment, name, started, tags)


def open_run(client: MlflowClient, experiment: str, name: str, started: float, tags: Mapping[str, str]) -> str:
    """Return the run of an entry: a new one, or the one that an interrupted tracker had begun."""
    runs = client.search_runs([experiment], f"tags.entry = '{tags['entry']}'", max_results=1)
    if runs:
        return str(runs[0].info.run_id)
    cut = {key: value[:LONGEST_TAG] for key, value in tags.items()}
    with never_twice():
        return str(client.create_run(experiment, int(started * 1000), cut, name).info.run_id)


def open_child(book: Book, entry: str, name: str, started: float, parent: str, tags: Mapping[str, str]) -> str:
    """Return a run below another one."""
    above = {"entry": entry, "mlflow.parentRunId": parent, "reproduction": book.parent}
    source = {
        key: str(value)
        for key, value in {
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": book.opened["commit"],
            "git.commit": book.opened["commit"],
            "git.dirty": None if book.opened["changed"] is None else str(bool(book.opened["changed"])).lower(),
        }.items()
        if value is not None
    }
    return open_run(book.client, book.experiment, name, started, {**source, **above, **tags})


def params_of(flat: Any) -> list[Param]:
    """Make MLflow params of dotted keys; a long value is cut as MLflow requires."""
    import json

    from mlflow.entities import Param

    return [
        Param(key, (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:LONGEST_PARAM])
        for key, value in flat
    ]


def metrics_of(
    numbers: Mapping[str, float], when: float, step: int = 0, model: str | None = None, rows: Rows = (None, None)
) -> list[Metric]:
    """Make MLflow metrics.

    Args:
        numbers: by name.
        when: of that moment, in seconds since 1970.
        step: of training.
        model: the id of the model that they are of.
        rows: name and digest of the dataset that they were measured on.
    """
    from mlflow.entities import Metric

    of = {"model_id": model, "dataset_name": rows[0], "dataset_digest": rows[1]}
    return [Metric(key, value, int(when * 1000), step, **of) for key, value in numbers.items()]


def tags_of(values: Mapping[str, Any]) -> list[RunTag]:
    """Make MLflow tags."""
    from mlflow.entities import RunTag

    return [RunTag(key, str(value)[:LONGEST_TAG]) for key, value in values.items()]
