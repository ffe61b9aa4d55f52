"""The tracker under attack: real processes and real stores, killed, broken, gone, and holding secrets."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.between import Between
from tests.pipeline.conftest import ENVIRONMENT, ROOT

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that MLflow imports
    from mlflow import MlflowClient
    from mlflow.entities import Run

PATIENCE = 120.0  # seconds
PIPELINE = "stages:\n  work: {desc: does it, cmd: two, outs: [out], params: [knob]}\n"
REPRODUCTION = """
import json, os, sys
from pathlib import Path
from types import SimpleNamespace
from stages.tracking import drain, reproduction_environment, stage_notes
from stages.tracking.reproduction import OFF, VARIABLE
os.environ |= {"DVC_STAGE": "dvc.yaml:work", **reproduction_environment()}
with stage_notes.track(SimpleNamespace(tracking=SimpleNamespace(store="mlflow", experiment="e"))):
    Path("out").mkdir(exist_ok=True)
    Path("out/metrics.json").write_text(json.dumps({"loss": float(sys.argv[1])}))
del os.environ[VARIABLE]
os.environ |= reproduction_environment()
if len(sys.argv) < 3:
    drain(Path.cwd())
"""


class Project:
    """A folder with tracking's code, one stage, and whatever stores it is told to use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tracking = folder / ".work/tracking"
        self.own = f"sqlite:///{folder / 'mlflow.db'}"
        shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "knowtune").symlink_to(ROOT / "knowtune")
        (folder / "dvc.yaml").write_text(PIPELINE)
        (folder / "params.yaml").write_text("knob: 3\n")

    def reproduce(self, loss: float, *arguments: str, **environment: str) -> str:
        """One stage and the end of a reproduction; without the end when there is an argument."""
        return self.python("-c", REPRODUCTION, str(loss), *arguments, **environment)

    def tracker(self, **environment: str) -> str:
        return self.python("-m", "stages.tracking.tracker", **environment)

    def python(self, *words: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**ENVIRONMENT, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        return done.stdout

    def losses(self, uri: str = "") -> list[float]:
        return sorted(run.data.metrics["loss"] for run in self.runs(uri) if "loss" in run.data.metrics)

    def runs(self, uri: str = "") -> list[Run]:
        client = MlflowClient(uri or self.own)
        experiment = client.get_experiment_by_name("e")
        return [] if experiment is None else list(client.search_runs([experiment.experiment_id]))

    def waiting(self) -> list[str]:
        return sorted(p.name for p in (self.tracking / "spool").iterdir() if p.suffix != ".part")

    def trackers(self) -> list[int]:
        """The trackers that live; each has this folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if "stages.tracking.tracker" in process.cmdline() and process.cwd() == str(self.folder):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def settle(self) -> None:
        until(lambda: not self.trackers())

    def log(self) -> str:
        return (self.tracking / "log").read_text()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path / "project")
    yield project
    project.settle()  # nothing spins or stays behind


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, to copy: making one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def test_notes_that_nobody_can_read_are_put_aside(project: Project, store: Path) -> None:
    """What a tracker left that was killed while it removed a note once made every later one spin for ever."""
    shutil.copy(store, project.folder / "mlflow.db")
    spool = project.tracking / "spool"
    (spool / "100-1.ended/links/outs/0").mkdir(parents=True)
    bad = {"101-1.started.json": b'{"repro', "102-1.closed.json": b"[]", "103-1.ended": b"", "104-1": b"\xff"}
    for name, content in bad.items():
        (spool / name).write_bytes(content)
    (spool / "105-1.ended").mkdir()
    (spool / "105-1.ended/note.json").write_text('{"reproduction": "1:2.0"}')
    (project.tracking / "reproductions").mkdir()
    (project.tracking / "reproductions/1-3.0.json").write_text("{}")
    told = project.reproduce(0.5)
    assert "tracked: experiment e" in told
    assert "tracking: 100-1.ended cannot be read" in told
    names = {path.name for path in (project.tracking / "refused").iterdir()}
    assert names == {*bad, "100-1.ended", "105-1.ended", "1-3.0.json"}
    assert project.waiting() == []
    assert project.losses() == [0.5]
    assert {run.info.status for run in project.runs()} == {"FINISHED"}


def test_a_store_that_is_gone_holds_no_other_one_up(project: Project, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    gone = f"http://127.0.0.1:{port}"
    told = project.reproduce(0.1, MLFLOW_TRACKING_URI=gone)
    assert f"tracking: {gone}: ConnectionRefusedError" in told
    assert "nothing is lost: the next run records it" in told
    assert "mlflow" not in {path.stem for path in project.folder.glob("*.db")}
    assert "tracked: experiment e" in project.reproduce(0.2)
    project.settle()
    assert project.losses() == [0.2]
    assert len(project.waiting()) == 3  # of the first: begun, ended, closed
    with server(port, tmp_path):
        assert "tracked: experiment e" in project.reproduce(0.3)  # a run to another store looks after it too
        project.settle()
        assert project.losses(gone) == [0.1]
        check_that_all_is_recorded_once(project, port)
    assert project.losses() == [0.2, 0.3]
    assert project.waiting() == []


def check_that_all_is_recorded_once(project: Project, port: int) -> None:
    """A server that does what it is asked for and whose answers are lost; one that answers 503; one that hangs."""
    with Between(port) as between:
        uri, seen = f"http://127.0.0.1:{between.port}", Counter[str]()

        def fault(_method: str, path: str) -> str:
            seen[path] += 1
            losing = path.endswith(("runs/create", "log-batch")) and seen[path] == 1
            return "lose" if losing else "503" if path.endswith("runs/update") and seen[path] in (2, 3) else ""

        between.fault = fault
        assert "tracked: experiment e" in project.reproduce(0.4, MLFLOW_TRACKING_URI=uri)
        project.settle()
        assert [struck.split()[0] for struck in between.struck] == ["lose"] * 2 + ["503"] * 2, between.struck
        impatient = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        between.fault = lambda _, path: "hang" if path.endswith("runs/search") else ""
        told = project.reproduce(0.5, MLFLOW_TRACKING_URI=uri, **impatient)
        assert "nothing is lost: the next run records it" in told
        project.settle()
        assert len(project.waiting()) == 3
        between.fault = lambda *_: ""
        assert "tracked: experiment e" in project.reproduce(0.6, MLFLOW_TRACKING_URI=uri)
        project.settle()
    runs = project.runs(f"http://127.0.0.1:{port}")
    assert project.losses(f"http://127.0.0.1:{port}") == [0.1, 0.4, 0.5, 0.6]
    assert len(runs) == 8  # a reproduction and its stage, each
    assert {run.info.status for run in runs} == {"FINISHED"}
    client = MlflowClient(f"http://127.0.0.1:{port}")
    for run in runs:
        for key in run.data.metrics:
            assert len(client.get_metric_history(run.info.run_id, key)) == 1
        if run.data.tags["kind"] == "reproduction":
            table = json.loads(Path(client.download_artifacts(run.info.run_id, "stages.json")).read_text())
            assert [row[:2] for row in table["data"]] == [["work", "ran"]]


class server:  # noqa: N801  a context, as below it reads
    """MLflow's server on a port."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder

    def __enter__(self) -> None:
        store = f"sqlite:///{self.folder / 'server.db'}"
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"),
            *("--backend-store-uri", store, "--artifacts-destination", str(self.folder / "artifacts")),
        ]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = {**ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(
            command, cwd=self.folder, env=environment, start_new_session=True, **quiet
        )  # fmt: skip
        until(self.answers)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Refuses(http.server.BaseHTTPRequestHandler):
    """A server that answers everything with one code."""

    code = 401

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(b'{"error_code": "X", "message": "no"}')

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("code", [401, 500])
def test_a_server_that_says_no_keeps_its_notes_and_no_secret_is_told(project: Project, code: int) -> None:
    handler = type("Handler", (Refuses,), {"code": code})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        uri = f"http://ann:s3cret-word@127.0.0.1:{listener.server_address[1]}"
        told = project.reproduce(0.1, MLFLOW_TRACKING_URI=uri, MLFLOW_TRACKING_TOKEN="a-token-too")
        project.settle()
        listener.shutdown()
    assert "tracking: http://***@127.0.0.1" in told
    assert "nothing is lost: the next run with the same MLFLOW_TRACKING_URI records it" in told
    assert len(project.waiting()) == 3
    assert list((project.tracking / "refused").iterdir()) == []
    assert not secrets(project, told, "s3cret-word", "a-token-too")


def secrets(project: Project, told: str, *values: str) -> list[str]:
    """Where a secret stands: among what was printed, or in a file."""
    files = [path for path in project.folder.rglob("*") if path.is_file() and "stages" not in path.parts]
    found = [str(path) for path in files for value in values if value.encode() in path.read_bytes()]
    return found + [line for line in told.splitlines() for value in values if value in line]


def test_a_server_that_never_answers_costs_seconds(project: Project) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        told = project.reproduce(0.1, MLFLOW_TRACKING_URI=uri)
        assert f"{uri}: no answer within 5 s; nothing is lost" in told
        project.settle()


def test_a_database_that_is_broken_or_locked_is_named_and_healed_by_the_next_run(project: Project, store: Path) -> None:
    path = project.folder / "mlflow.db"
    path.write_bytes(b"no database" * 1000)
    assert f"{path}: file is not a database; nothing is lost" in project.reproduce(0.1)
    project.settle()
    shutil.copy(store, path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'abc'")
    assert "another version of MLflow wrote it" in project.reproduce(0.2)
    project.settle()
    shutil.copy(store, path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert f"{path}: database is locked; nothing is lost" in project.reproduce(0.3)
    holder.execute("ROLLBACK")
    holder.close()
    project.settle()
    assert "tracked: experiment e" in project.reproduce(0.4)
    assert project.losses() == [0.1, 0.2, 0.3, 0.4]
    assert project.waiting() == []


def test_a_good_run_holds_no_secret_of_its_environment(project: Project, store: Path) -> None:
    shutil.copy(store, project.folder / "mlflow.db")
    (project.folder / "params.yaml").write_text("knob: hub-token-of-mine\n")
    variables = {"HF_TOKEN": "hub-token-of-mine", "AWS_SECRET_ACCESS_KEY": "aws-key-of-mine"}
    told = project.reproduce(0.1, "", **variables) + project.reproduce(0.2, **variables)
    project.settle()
    (project.folder / "params.yaml").unlink()  # the stage's own check refuses such a file
    assert project.losses() == [0.1, 0.2]
    assert not secrets(project, told, *variables.values())
    assert {run.data.params["knob"] for run in project.runs() if "loss" in run.data.metrics} == {"***"}


def test_an_interrupt_of_the_wait_leaves_the_exit_code_alone(project: Project, store: Path) -> None:
    shutil.copy(store, project.folder / "mlflow.db")
    project.tracking.mkdir(parents=True)
    with (project.tracking / "tracker.lock").open("w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)  # nobody reads
        process = subprocess.Popen(
            [sys.executable, "-c", REPRODUCTION, "0.1"],
            cwd=project.folder,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until(lambda: list(project.tracking.glob("spool/*.closed.json")))
        assert process.stdout is not None
        line = process.stdout.readline()  # it says that it waits
        assert "notes are still being recorded" in line
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert rest == "tracking: what is left is recorded in the background\n"
    project.tracker()
    assert project.losses() == [0.1]


def test_damaged_results_are_recorded_as_far_as_they_go(project: Project, store: Path) -> None:
    shutil.copy(store, project.folder / "mlflow.db")
    seed = project.folder / "out/seed-0"
    seed.mkdir(parents=True)
    (seed / "curve.csv").write_text("step,split\n1,\x00\n")
    (seed / "adapter_config.json").write_text("{")
    (project.folder / "out/summary.json").write_text('{"a": 1')
    (project.folder / "dvc.lock").write_text("stages:\n  work: {outs: [")
    assert "tracked: experiment e" in project.reproduce(0.1)
    assert project.losses() == [0.1]
    assert json.loads(json.dumps(project.waiting())) == []
    assert list((project.tracking / "refused").iterdir()) == []
