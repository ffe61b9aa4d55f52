"""MLflow for real: a SQLite store, a server, DVC, and trackers that get killed."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.core.pipeline import flatten, quick_yaml, read_stages
from stages.tracking.origin import Origins
from stages.tracking.registry import Registry
from stages.tracking.releasing import Contents, log_release
from tests.pipeline.conftest import ENVIRONMENT, ROOT, SET, Project, copy_project

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that MLflow imports
    from mlflow import MlflowClient
    from mlflow.entities import Run

PATIENCE = 90.0  # seconds


class Store:
    """What a project's experiment holds."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(uri)
        (experiment,) = [e for e in self.client.search_experiments() if e.name == "knowtune"]
        self.experiment = experiment.experiment_id

    def runs(self, kind: str, parent: str = "") -> dict[str, Run]:
        clause = f"tags.kind = '{kind}'" + (f" and tags.reproduction = '{parent}'" if parent else "")
        found = self.client.search_runs([self.experiment], clause, max_results=1000, order_by=["start_time ASC"])
        return {run.info.run_name: run for run in found}

    def parents(self) -> list[Run]:
        return list(self.runs("reproduction").values())

    def artifact(self, run: Run, name: str) -> Any:
        return json.loads(Path(self.client.download_artifacts(run.info.run_id, name)).read_text())


def own_store(project: Project) -> Store:
    return Store(f"sqlite:///{project.folder / 'mlflow.db'}")


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def left(project: Project) -> list[Path]:
    tracking = project.folder / ".work/tracking"
    return [*tracking.glob("spool/*"), *tracking.glob("reproductions/*")]


def settle(project: Project) -> None:
    """A plain `dvc repro` does not wait for the tracker."""
    until(lambda: not left(project))


def repro(project: Project, *targets: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return project.command("dvc", "repro", *targets, check=False, **environment)


def locked(project: Project) -> dict[str, Any]:
    stages: dict[str, Any] = quick_yaml(project.folder / "dvc.lock")["stages"]
    return stages


def md5s(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["path"]: entry["md5"] for entry in entries}


@pytest.fixture
def project(recorded: Project, tmp_path: Path) -> Project:
    """A copy of it, to change."""
    return Project(Path(shutil.copytree(recorded.folder, tmp_path / "project", symlinks=True)))


@pytest.fixture(scope="module")
def store(recorded: Project) -> Store:
    return own_store(recorded)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of which only the first two stages are run, by plain DVC."""
    project = copy_project(tmp_path_factory.mktemp("small"))
    project.change(lambda params: params["tracking"].update(store="mlflow"))
    assert repro(project, "base").returncode == 0
    settle(project)
    return project


@pytest.fixture
def another(small: Project, tmp_path: Path) -> Project:
    """A copy of it without what tracking has kept."""
    shutil.copytree(small.folder, tmp_path / "another", symlinks=True)
    project = Project(tmp_path / "another")
    for name in (".work", "mlartifacts"):
        shutil.rmtree(project.folder / name)
    (project.folder / "mlflow.db").unlink()
    return project


def test_models_lead_from_run_to_run(store: Store) -> None:
    """Adapter, merged model, mixture: each is an output of the run that made it and an input of those that read it."""
    models = {m.model_id: m for m in store.client.search_logged_models([store.experiment], max_results=200)}
    named = {model.name: model for model in models.values()}
    seeds = {name: store.client.get_run(run.info.run_id) for name, run in store.runs("seed").items()}

    def links(name: str) -> tuple[list[str], list[str]]:
        read, made = seeds[name].inputs.model_inputs, seeds[name].outputs.model_outputs
        return [models[model.model_id].name for model in read], [models[model.model_id].name for model in made]

    assert links("train@lora seed-0") == ([], ["lora-seed-0"])
    assert links("merge@lora seed-0") == (["lora-seed-0"], ["lora-seed-0-folded"])
    assert links("merge@prefix seed-1") == (["prefix-seed-1"], ["prefix-seed-1-composed"])
    read, made = links("mix@soup seed-0")
    assert (sorted(read), made) == (["full-seed-0-folded", "lora-seed-0-folded"], ["soup-seed-0-mixed"])
    assert links("evaluate-mixture@soup seed-0") == (made, [])
    assert named["lora-seed-0-folded"].tags["dvc.path"] == "data/merged/lora/seed-0"
    numbers = {metric.key: metric.dataset_name for metric in named["lora-seed-0-folded"].metrics or []}
    assert numbers["parity.largest"] == numbers["reliability"] == "data/prepared/test.jsonl"
    rows = {data.dataset.name: data.dataset.digest for data in seeds["train@lora seed-0"].inputs.dataset_inputs}
    assert rows["data/selected/clean"].endswith(".dir")


def promoted(project: Project, store: Store, folder: Path) -> None:
    """Register a merged model with its record, as a promotion does; the toys learn nothing that a gate lets through."""
    for name in ("params.yaml", "dvc.lock"):
        shutil.copyfile(project.folder / name, folder / name)
    model = project.folder / "data/merged/full/seed-0"
    card = json.loads((model / "merged.json").read_text())
    tags = {"run": "full", "seed": "0", "git.commit": "c" * 40}
    registry = Registry(store.client, "knowtune")
    told = {"text": "", "metrics": {}, "card": card, "tags": tags}
    of = Contents(project.folder, "knowtune", "key", "full seed-0", model=model, base=None, record=folder, **told)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow, which misses type hints in what it saves
        version = registry.register(log_release(registry, of))
    registry.point("champion", version.number)


def test_a_registered_model_leads_back_to_its_rows_though_the_project_has_moved_on(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, data = own_store(project), project.folder / "data"
    (tmp_path / "record").mkdir()
    promoted(project, store, tmp_path / "record")  # into the client's store, not the one of the working folder
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.folder / 'mlflow.db'}")
    models = {m.name: m for m in store.client.search_logged_models([store.experiment], max_results=200)}
    store.client.create_registered_model("toy")
    for number, name in enumerate(("lora-seed-0", "prefix-seed-0"), 1):
        model = models[name]
        where = model.artifact_location, model.source_run_id
        store.client.create_model_version("toy", *where, model_id=model.model_id)
        store.client.set_registered_model_alias("toy", ("champion", "candidate")[number - 1], str(number))
    row = json.loads((data / "filtered/clean/kept.jsonl").read_text().splitlines()[0])["id"]
    learned = {json.loads(line)["id"] for line in (data / "selected/some/seed-3/rows.jsonl").read_text().splitlines()
               if json.loads(line)["chosen"]}  # fmt: skip
    lock = project.folder / "dvc.lock"
    entries = quick_yaml(lock)["stages"]["prepare"]["outs"]
    digests = {Path(entry["path"]).name: entry["md5"] for entry in entries}
    text = lock.read_text()
    for table in ("train", "test"):  # as if other rows had been prepared since
        text = text.replace(digests[f"{table}.jsonl"], digests["rejected.jsonl"])
    lock.write_text(text)
    shutil.rmtree(data / "selected")
    (data / "prepared/train.jsonl").unlink()

    done = project.command("cli", "lineage", "--json", "--row", row)
    versions = {version["name"]: version for version in json.loads(done.stdout)["versions"]}
    assert versions["toy/1"] == {
        "name": "toy/1", "aliases": ["champion"], "path": "data/adapters/lora/seed-0", "saw": ["trained"],
        "helped": False, "faults": [],
    }  # fmt: skip
    assert bool(versions["toy/2"]["saw"]) == (row in learned)
    assert versions["knowtune/1"]["saw"] == ["trained"]
    answer = json.loads(project.command("cli", "lineage", "--json", "--model", "champion").stdout)
    assert answer["faults"] == []
    ends = [(node["id"], node["facts"].get("commit")) for node in answer["nodes"]][-2:]
    assert ends == [("merged full/seed-0", None), ("version knowtune/1", "c" * 40)]
    origin = Origins().of("models:/toy@champion")  # not promoted: followed from run to run
    assert (origin.name, origin.aliases, origin.path) == ("toy/1", ["champion"], "data/adapters/lora/seed-0")
    assert origin.stages["prepare"]["outs"]["data/prepared/train.jsonl"]["md5"] == digests["train.jsonl"]
    assert origin.params["runs"]["lora"]["options"] == {"rank": 2, "alpha": 4}
    runs, stages = store.runs("stage"), ("base", "prepare", "answers", "filter@clean", "select@clean", "train@lora")
    assert {name: origin.runs[name]["run"] for name in stages} == {name: runs[name].info.run_id for name in stages}


def test_one_parent_and_a_child_per_stage_and_seed(recorded: Project, store: Store) -> None:
    (parent,) = store.parents()
    stages = store.runs("stage", parent.info.run_id)
    assert set(stages) == set(read_stages(recorded.folder))
    assert {run.info.status for run in (parent, *stages.values())} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in stages.values()} == {parent.info.run_id}
    seeds = store.runs("seed", parent.info.run_id)
    for family in ("train", "merge", "evaluate-run"):
        assert {f"{family}@lora seed-0", f"{family}@prefix seed-0", f"{family}@prefix seed-1"} < set(seeds)
        above = seeds[f"{family}@prefix seed-1"].data.tags["mlflow.parentRunId"]
        assert above == stages[f"{family}@prefix"].info.run_id
    assert "tracked: experiment knowtune, run 'reproduce " in recorded.first_run()


def test_digests_and_params_are_those_of_dvc_lock(recorded: Project, store: Store) -> None:
    for name, run in store.runs("stage").items():
        entry = locked(recorded)[name]
        noted = store.artifact(run, "dvc.json")
        for kind in ("deps", "outs"):
            listed = {item.pop("path"): item for item in entry.get(kind, [])}
            assert noted[kind] == {path: {k: v for k, v in i.items() if k != "hash"} for path, i in listed.items()}
            for found in run.inputs.dataset_inputs:
                if found.tags[0].value == kind.removesuffix("s"):
                    assert found.dataset.digest == listed[found.dataset.name]["md5"]
        assert run.data.tags["dvc.lock"] == "equal"
        listed_params = entry.get("params", {}).get("params.yaml", {})
        params = dict(leaf for key, value in listed_params.items() for leaf in flatten(value, key))
        assert run.data.params == {key: v if isinstance(v, str) else json.dumps(v) for key, v in params.items()}
        named = {found.dataset.name for found in run.inputs.dataset_inputs}
        code = ("knowtune", "stages", "data/code/")  # which code a stage ran is no data
        assert named == {path for path in {*noted["deps"], *noted["outs"]} if not path.startswith(code)}


def test_metrics_have_steps_and_stages_their_cost(recorded: Project, store: Store) -> None:
    run = store.runs("seed")["train@prefix seed-1"]
    with (recorded.folder / "data/adapters/prefix/seed-1/curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    for split in ("train", "validation"):
        history = store.client.get_metric_history(run.info.run_id, f"{split}_loss")
        wanted = [(int(row["step"]), float(row["loss"])) for row in rows if row["split"] == split]
        assert [(m.step, m.value) for m in sorted(history, key=lambda m: m.step)] == wanted
    cost = store.runs("stage")["train@prefix"].data.metrics
    assert cost["seconds"] > 0.1
    assert cost["peak_memory_bytes"] > 50_000_000


def test_a_newcomer_finds_data_base_params_and_results(recorded: Project, store: Store) -> None:
    (parent,) = store.parents()
    final = json.loads((recorded.folder / "data/report/metrics.json").read_text())
    assert parent.data.metrics["lora.text_loss"] == final["lora"]["text_loss"]
    assert parent.data.params["runs.lora.options.rank"] == "2"
    sources = {found.dataset.name: found.dataset.digest for found in parent.inputs.dataset_inputs}
    stages = locked(recorded)
    read = md5s(stages["prepare"]["deps"]) | md5s(stages["retention@numbers"]["deps"]) | md5s(stages["gate"]["deps"])
    assert sources == {name: read[name] for name in ("data/raw", "data/raw/text.jsonl", SET, "champion")}
    card = json.loads((recorded.folder / "data/base/base.json").read_text())
    assert (parent.data.tags["base"], parent.data.tags["base_digest"]) == (card["identity"], card["digest"])
    assert (recorded.folder / "data/report/leaderboard.md").read_text() in parent.data.tags["mlflow.note.content"]
    names = {file.path for file in store.client.list_artifacts(parent.info.run_id)}
    assert {"index.html", "leaderboard.md", "params.yaml", "stages.json"} <= names
    view = json.loads(store.client.get_experiment(store.experiment).tags["mlflow.sharedViewState.results"])
    assert "metrics.`lora.generalisation`" in view["selectedColumns"]


LOADED = """
import mlflow, sys
for uri in sys.argv[2:]:
    model = mlflow.pyfunc.load_model(uri)
    print(model.metadata.signature, model.input_example.to_dict("records"))
    print("answers", len(model.predict(model.input_example, params={"max_new_tokens": 2})["answer"]))
mlflow.pyfunc.load_model(uri, model_config={"base": sys.argv[1]})
"""


def test_a_seed_loads_as_a_model_and_refuses_another_base(recorded: Project, store: Store, tmp_path: Path) -> None:
    wrong = shutil.copytree(recorded.folder / "data/merged/lora/seed-0", tmp_path / "wrong")
    seeds = store.runs("seed")
    uris = [seeds[name].data.tags["model"] for name in ("train@lora seed-0", "train@full seed-0")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADED, str(wrong), *uris],
        cwd=recorded.folder,
        env={**ENVIRONMENT, "MLFLOW_TRACKING_URI": f"sqlite:///{recorded.folder / 'mlflow.db'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("answers 1") == 2, done.stderr
    assert "'prompt': '" in done.stdout
    assert "made on a base with digest" in done.stderr


def test_the_python_of_the_guide_runs(recorded: Project, store: Store) -> None:
    page = (ROOT / "docs/guide/tracking.md").read_text(encoding="utf-8")
    through_mlflow, alone = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    uri = store.runs("seed")["train@lora seed-0"].data.tags["model"]
    code = through_mlflow.replace("models:/m-...", uri).replace("/models/my-base", "data/base") + alone
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=recorded.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\['.+'\]", done.stdout.strip())


def test_a_plain_repro_points_to_the_producers_of_what_it_skipped(recorded: Project, project: Project) -> None:
    before = own_store(project).runs("stage")
    done = repro(project, "--force", "--single-item", "validate")
    assert done.returncode == 0, done.stderr
    settle(project)
    store = own_store(project)
    first, second = store.parents()
    assert set(store.runs("stage", second.info.run_id)) == {"validate"}
    assert second.data.tags["command"].endswith("dvc repro --force --single-item validate")
    table = store.artifact(second, "stages.json")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    for row in rows:
        if row["stage"] != "validate":
            assert (row["happened"], row["made by run"]) == ("skipped", before[row["stage"]].info.run_id)
            assert second.data.tags[f"produced_by.{row['stage'].replace('@', '.')}"] == row["made by run"]
    assert first.info.status == second.info.status == "FINISHED"


def test_a_failed_stage_is_failed_and_says_why(another: Project) -> None:
    another.change(lambda p: p.update(base={"model": "folder", "path": "data/raw"}))
    assert repro(another, "base").returncode != 0
    settle(another)
    store = own_store(another)
    (parent,) = store.parents()
    runs = store.runs("stage")
    assert {name: run.info.status for name, run in runs.items()} == {"validate": "FINISHED", "base": "FAILED"}
    assert parent.info.status == "FAILED"
    text = Path(store.client.download_artifacts(runs["base"].info.run_id, "error.txt")).read_text()
    assert "not a model folder" in text
    assert runs["base"].data.tags["error"] in text


def test_a_killed_tracker_loses_nothing(another: Project) -> None:
    tracking = another.folder / ".work/tracking"
    tracking.mkdir(parents=True)
    with (tracking / "tracker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # nobody reads while the stages run
        assert repro(another, "--force", "base").returncode == 0
    assert len(list(tracking.glob("spool/*.ended"))) == 2
    replaced = another.folder / "data/base/config.json"
    replaced.unlink()
    replaced.write_text("replaced before anybody looked")
    tracker = subprocess.Popen(
        [sys.executable, "-m", "stages.tracking.tracker"],
        cwd=another.folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: any(another.folder.glob("mlartifacts/*/artifacts/dvc.json")))
    tracker.send_signal(signal.SIGKILL)
    tracker.wait()
    assert left(another)
    another.command("stages.tracking.tracker")
    assert not left(another)
    store = own_store(another)
    (parent,) = store.parents()
    assert parent.info.status == "FINISHED"
    assert len(store.client.search_runs([store.experiment])) == 3
    outs = store.artifact(store.runs("stage")["base"], "dvc.json")["outs"]
    assert {name: found["md5"] for name, found in outs.items()} == md5s(locked(another)["base"]["outs"])


def test_many_stages_at_once_start_one_tracker_and_one_store(another: Project) -> None:
    code = "from stages.tracking.wake import wake; wake()"
    waking = [
        subprocess.Popen([sys.executable, "-c", code], cwd=another.folder, env=ENVIRONMENT) for _ in range(4)
    ] + [
        subprocess.Popen([sys.executable, "-m", "stages.tracking"], cwd=another.folder, env=ENVIRONMENT)
        for _ in range(2)
    ]  # fmt: skip
    assert [process.wait() for process in waking] == [0] * 6
    log = another.folder / ".work/tracking/log"
    until(lambda: log.read_text().count("starts") > 0)
    assert log.read_text().count("starts") == 1
    assert "Error" not in log.read_text()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"sqlite:///{tmp_path / 'server.db'}"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", store, "--artifacts-destination", str(tmp_path / "artifacts")),
        ],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return bool(urllib.request.urlopen(f"{address}/health").status == 200)
        except urllib.error.URLError:
            return False

    until(answers)
    yield address
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_server_is_respected_and_one_that_is_gone_costs_no_result(another: Project, server: str) -> None:
    gone = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    assert repro(another, "--force", "validate", **gone).returncode == 0
    words = another.folder / ".work/tracking/words"
    until(lambda: any(words.glob("*.json")))
    assert "nothing is lost" in next(words.glob("*.json")).read_text()
    assert left(another)
    shutil.rmtree(another.folder / ".work/tracking")
    assert repro(another, "--force", "validate", MLFLOW_TRACKING_URI=server).returncode == 0
    settle(another)
    store = Store(server)
    (parent,) = store.parents()
    assert parent.info.status == "FINISHED"
    (run,) = store.runs("stage").values()
    assert store.artifact(run, "dvc.json")["outs"]["data/code"]["md5"]
    assert not (another.folder / "mlflow.db").exists()
