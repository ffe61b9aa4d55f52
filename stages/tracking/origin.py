"""From a model of the store back to what was recorded when it was made: runs, commits, params, digests of every stage.

A promoted version brings the dvc.lock of its time. Of any other model, what a run read is found among what other runs
wrote, by DVC's digest. So a model leads back to its rows even when the project has moved on since.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError, unknown
from stages.core.pipeline import project_out, quick_yaml
from stages.tracking.chain import PATH
from stages.tracking.digests import joint_md5
from stages.tracking.lineage import Digest, Locked, md5s
from stages.tracking.registry import RECORD as RECORDED
from stages.tracking.registry import Registry, Version
from stages.tracking.spool import LOCK
from stages.tracking.store import open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

SCHEME = "models:/"
RECORD, PARAMS = "dvc.json", "params.yaml"  # artifacts of a stage's run, and of a reproduction's


@dataclass
class Origin:
    """What a store knows of a model.

    Args:
        name: e.g. "knowtune/3" of a registered version, else the model's own id.
        aliases: of the version.
        path: the folder that the model was, seen from the project's.
        params: the whole params.yaml of the reproduction that made it.
        lock: the dvc.lock that a promoted version has in its record; None of another model.
        stages: name to digests of deps and outs, of all that led to it.
        commands: name to `cmd`.
        runs: name to the run's id, its commit, and whether files differed from that; "" is the model's own run.
    """

    name: str
    aliases: list[str] = field(default_factory=list)
    path: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    lock: dict[str, Any] | None = None
    stages: dict[str, dict[str, dict[str, Digest]]] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, str]] = field(default_factory=dict)


class Origins:
    """The project's store, asked where models come from.

    Raises:
        StoreError: it does not answer.
    """

    def __init__(self) -> None:
        self._client = open_store()

    def versions(self) -> list[str]:
        """List the addresses of all registered versions, those that changed last first."""
        versions = self._client.search_model_versions(order_by=["last_updated_timestamp DESC"])
        return [f"{SCHEME}{version.name}/{version.version}" for version in versions]

    def of(self, uri: str) -> Origin:
        """Follow a model back.

        Args:
            uri: models:/NAME@ALIAS, models:/NAME/VERSION or models:/ID.

        Raises:
            UserError: the store knows no such model, or not which run made it.
        """
        client = self._client
        version, model = _model(client, uri)
        run_id = (model and model.source_run_id) or (version and version.run_id)
        if not run_id:
            raise UserError(f"{uri}: the store does not say which run made it")
        name = f"{version.name}/{version.version}" if version is not None else str(model and model.model_id)
        origin = Origin(name, list(version.aliases) if version is not None else [])
        run = client.get_run(run_id)
        origin.runs[""] = _about(run)
        if version is not None and {"run", "seed"} <= set(version.tags):
            self._read_record(version, origin)
            return origin
        if run.data.tags.get("kind") == "seed":
            origin.path = (model.tags if model is not None else {}).get(PATH, "")
            seed, run = run.data.tags["seed"], client.get_run(run.data.tags["mlflow.parentRunId"])
            if not origin.path:  # a model of an older version
                record = _artifact(client, run, RECORD)
                origin.path = f"{next(iter(record['outs']), '')}/seed-{seed}"
        reproduction = client.get_run(run.data.tags.get("reproduction", run.info.run_id))
        origin.params = _artifact(client, reproduction, PARAMS)
        _follow(client, run, origin)
        return origin

    def _read_record(self, version: ModelVersion, origin: Origin) -> None:
        """Take params and dvc.lock from the record that a promotion leaves with a version."""
        known = Version(version.name, str(version.version), dict(version.tags), source=str(version.source))
        with tempfile.TemporaryDirectory() as folder:
            record = Registry(self._client, version.name).fetch(known, RECORDED, Path(folder))
            origin.params, origin.lock = quick_yaml(record / PARAMS), quick_yaml(record / LOCK)
        run, seed = known.tags["run"], known.tags["seed"]
        verb = "mix" if run in (origin.params.get("mixtures") or {}) else "merge"
        origin.path = f"{project_out(verb, run)}/seed-{seed}"

    def runs_of(self, experiment: str, stages: Locked) -> dict[str, dict[str, str]]:
        """Find the runs that wrote what stages have as outs: their ids and commits. A stage without one is left out."""
        known = self._client.get_experiment_by_name(experiment)
        runs: dict[str, dict[str, str]] = {}
        if known is None:
            return runs
        for name, stage in stages.items():
            clause = f"tags.`dvc.outs` = '{joint_md5(md5s(stage['outs']))}' AND tags.`dvc.stage` = '{name}'"
            where = f"{clause} AND tags.kind = 'stage' AND attributes.status = 'FINISHED'"
            order = ["start_time DESC"]
            hits = self._client.search_runs([known.experiment_id], where, max_results=1, order_by=order)
            if hits:
                runs[name] = _about(hits[0])
        return runs


def _model(client: MlflowClient, uri: str) -> tuple[ModelVersion | None, LoggedModel | None]:
    """Look a model up by its address."""
    from mlflow.exceptions import MlflowException

    rest = uri.removeprefix(SCHEME).strip("/")
    name, _, alias = rest.partition("@")
    named, _, number = rest.partition("/")
    try:
        if alias:
            version = client.get_model_version_by_alias(name, alias)
        elif number:
            version = client.get_model_version(named, number)
        else:
            return None, client.get_logged_model(rest)
    except MlflowException as error:
        if not alias and not number:
            raise UserError(f"{uri}: no model has this id; {SCHEME}NAME@ALIAS means a registered one") from None
        known = {model.name for model in client.search_registered_models()}
        if (name if alias else named) not in known:
            raise unknown("registered model", name if alias else named, known) from None
        raise UserError(f"{uri}: {str(error).partition(': ')[2] or error}") from None
    model_id = getattr(version, "model_id", None) or _id_in(version.source)
    return version, client.get_logged_model(model_id) if model_id else None


def _id_in(source: str | None) -> str:
    """Return the id of the model that a version was made from; "" where its source is another."""
    rest = str(source).removeprefix(SCHEME)
    return rest if str(source).startswith(f"{SCHEME}m-") else ""


def _follow(client: MlflowClient, run: Run, origin: Origin) -> None:
    """Take up a stage's run and those that wrote what it read."""
    todo = [run]
    while todo:
        run = todo.pop()
        stage = run.data.tags.get("dvc.stage", "")
        if not stage or stage in origin.stages:
            continue
        record = _artifact(client, run, RECORD)
        origin.stages[stage] = {"deps": record["deps"], "outs": record["outs"]}
        origin.commands[stage] = " ".join(str(record["cmd"]).split())
        origin.runs[stage] = _about(run)
        data = {item.dataset.name: item.dataset.digest for item in _data(run) if _is_read(item)}
        for path, md5 in data.items():
            if not any(path in known["outs"] for known in origin.stages.values()):
                todo += _writer(client, run.info.experiment_id, path, md5)
        read = run.inputs.model_inputs if run.inputs is not None else []
        todo += [_stage_of(client, client.get_logged_model(model.model_id)) for model in read]


def _stage_of(client: MlflowClient, model: LoggedModel) -> Run:
    """Return the stage's run that made a model."""
    run = client.get_run(str(model.source_run_id))
    return client.get_run(run.data.tags["mlflow.parentRunId"]) if run.data.tags.get("kind") == "seed" else run


def _data(run: Run) -> list[DatasetInput]:
    """List the datasets of a run."""
    return list(run.inputs.dataset_inputs) if run.inputs is not None else []


def _is_read(item: DatasetInput) -> bool:
    """Tell a dep from an out."""
    return any(tag.key == "mlflow.data.context" and tag.value == "dep" for tag in item.tags)


def _writer(client: MlflowClient, experiment: str, path: str, md5: str) -> list[Run]:
    """Find the run that wrote a path with a digest; none of a source. It comes before those that read it."""
    where = f"dataset.digest = '{md5}' AND dataset.context = 'out' AND tags.kind = 'stage'"
    for run in client.search_runs([experiment], where, max_results=50, order_by=["start_time ASC"]):
        for item in _data(run):
            if item.dataset.name == path and item.dataset.digest == md5 and not _is_read(item):
                return [client.get_run(run.info.run_id)]  # with the models that it read, which a search leaves out
    return []


def _about(run: Run) -> dict[str, str]:
    """Say which run it is, and which code it ran."""
    tags = run.data.tags
    return {"run": run.info.run_id, "commit": tags.get("git.commit", ""), "dirty": tags.get("git.dirty", "unknown")}


def _artifact(client: MlflowClient, run: Run, name: str) -> dict[str, Any]:
    """Read an artifact of a run.

    Raises:
        UserError: the store has it no more.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = Path(client.download_artifacts(run.info.run_id, name, folder))
            value = quick_yaml(path) if name.endswith(".yaml") else json.loads(path.read_text(encoding="utf-8"))
        except Exception as error:  # whatever a store of artifacts raises
            raise UserError(f"run {run.info.run_id}: its artifact {name} is gone ({type(error).__name__})") from error
    return dict(value)
