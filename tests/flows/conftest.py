from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows.server import QUIET
from tests.pipeline.conftest import ENVIRONMENT, ROOT, Project, copy_project, once

LIMIT = 600.0  # seconds after which a flow is killed, so that no test waits for ever
get = partial(httpx.get, timeout=60)  # a server beside trainings answers late
post = partial(httpx.post, timeout=60)


@dataclass
class Flow:
    """A flow that has ended: what it printed, and what the server knows of it."""

    code: int
    output: str
    api: str

    @property
    def id(self) -> str:
        found = re.search(r"^page: http\S+/([0-9a-f-]{36})$", self.output, re.MULTILINE)
        assert found, self.output
        return found[1]

    def run(self) -> dict[str, Any]:
        return dict(get(f"{self.api}/flow_runs/{self.id}").json())

    def tasks(self) -> dict[str, dict[str, Any]]:
        """The task runs, by name."""
        body = {"flow_runs": {"id": {"any_": [self.id]}}}
        found = {run["name"]: run for run in post(f"{self.api}/task_runs/filter", json=body).json()}
        return dict(sorted(found.items()))

    def states(self) -> dict[str, str]:
        return {name: run["state"]["name"] for name, run in self.tasks().items()}

    def artifacts(self) -> dict[str, Any]:
        body = {"artifacts": {"flow_run_id": {"any_": [self.id]}}}
        return {found["key"]: found["data"] for found in post(f"{self.api}/artifacts/filter", json=body).json()}


@pytest.fixture(autouse=True, scope="session")
def _warm(warm: dict[str, str]) -> None:
    """Let every flow find the session's warm process."""
    ENVIRONMENT.update(warm)


class Runner:
    """Starts flows in a project, against the one server of the tests."""

    def __init__(self, api: str, home: Path, mlflow: str = "", served_by: int = 0) -> None:
        self.api, self.home, self.mlflow = api, home, mlflow
        self.served_by = served_by  # the process of `make serve`
        self.environment = {**ENVIRONMENT, "PREFECT_API_URL": api, "PREFECT_HOME": str(home)}

    def __call__(
        self, project: Project, *arguments: str, on_line: Callable[[str, psutil.Process], object] | None = None
    ) -> Flow:
        """Run a flow to its end.

        Args:
            project: where.
            arguments: of `python -m flows`.
            on_line: sees each line of output as it comes, and the flow's process.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", *arguments],
            cwd=project.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a group of its own, as a shell gives it, to which tests send signals
        )
        assert process.stdout is not None
        limit = threading.Timer(LIMIT, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        lines = []
        for line in process.stdout:
            lines.append(line)
            if on_line:
                on_line(line, psutil.Process(process.pid))
        process.stdout.close()
        code = process.wait()
        limit.cancel()
        return Flow(code, "".join(lines), self.api)


def make_tables(folder: Path) -> None:
    """Make a database of Prefect's, to copy: all its migrations take seconds."""
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
    environment = {**ENVIRONMENT, **QUIET, "PREFECT_HOME": str(folder)}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database for a server; one that starts from nothing is in test_attacks."""
    return once(tmp_path_factory, "tables", make_tables) / "prefect.db"


@pytest.fixture(scope="package")
def flows(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Iterator[Runner]:
    """`make serve` on ports of its own, with databases of its own, and what starts flows that tell it."""
    home = tmp_path_factory.mktemp("pages")
    shutil.copy(tables, home)
    prefect, mlflow = free_port(), free_port()
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_PORT": str(prefect),
        "MLFLOW_PORT": str(mlflow),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(home / "artifacts"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    serve = [sys.executable, "-m", "flows.serve"]
    server = subprocess.Popen(serve, cwd=ROOT, env={**ENVIRONMENT, **settings}, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    lines = [server.stdout.readline() for _ in range(4)]
    assert lines[0] == f"Prefect: http://127.0.0.1:{prefect}\n"
    assert lines[1] == f"MLflow:  http://127.0.0.1:{mlflow}/#/experiments/1/runs?workflowType=machine_learning\n"
    assert get(f"http://127.0.0.1:{mlflow}/health").text == "OK"
    shown = get(f"http://127.0.0.1:{prefect}/ui-settings").json()
    assert shown["api_url"] == f"http://127.0.0.1:{prefect}/api"
    yield Runner(shown["api_url"], home, f"127.0.0.1:{mlflow}", server.pid)
    below = psutil.Process(server.pid).children(recursive=True)
    server.send_signal(signal.SIGINT)
    assert server.wait() == 0
    server.stdout.close()
    assert not any(process.is_running() for process in below)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def small(params: dict[str, Any]) -> None:
    """Two runs, one of them long enough to be killed half-way; no mixtures, no rehearsal, no tracking."""
    params["tracking"]["store"] = "none"
    params["filters"] = {"clean": {"strategy": ["clean"], "allow_lost": True}}
    params["selections"] = {"clean": {"filter": "clean", "strategy": "everything"}}
    params["mixtures"] = {}
    params["answers"]["sketch"] = None  # no filter here reads it
    params["rehearse"] = None  # no run here reads it
    params.pop("promote")  # every section is optional
    lora = {"selection": "clean", "method": "lora", "options": {"rank": 2, "alpha": 4}, "seeds": [0]}
    params["runs"] = {"short": lora, "long": {**lora, "training": {"epochs": 12}}}


def copy_small(folder: Path) -> Project:
    project = copy_project(folder)
    shutil.copytree(ROOT / "flows", folder / "flows", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    project.change(small)
    return project


def run_base(folder: Path) -> None:
    """Make a project of which the base alone is built."""
    copy_small(folder).command("cli", "run", "base")


@pytest.fixture(scope="session")
def sequential(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that plain `dvc repro` has run, stage by stage; tests must leave it as it is."""
    project = Project(tmp_path_factory.mktemp("sequential"))
    shutil.copytree(once(tmp_path_factory, "begun", run_base), project.folder, symlinks=True, dirs_exist_ok=True)
    project.command("cli", "run")
    return project


@dataclass
class Flown:
    """A project that a flow with two workers has run from nothing."""

    project: Project
    flow: Flow
    killed: list[int]


@pytest.fixture(scope="package")
def flown(flows: Runner, tmp_path_factory: pytest.TempPathFactory) -> Flown:
    """The same project run by a flow, one of its stages killed on the way; tests must leave it as it is."""
    project = copy_small(tmp_path_factory.mktemp("flown"))
    killed: list[int] = []

    def kill_once(line: str, process: psutil.Process) -> None:
        if "| train long, seed 0: checkpoint" in line and not killed:
            victim = next(p for p in process.children(recursive=True) if is_stage(p, "stages.train", "long"))
            victim.kill()
            killed.append(victim.pid)

    flow = flows(project, "--workers", "2", on_line=kill_once)
    return Flown(project, flow, killed)


def is_stage(process: psutil.Process, module: str, name: str) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return words[1:3] == ["-m", module] and name in words


@pytest.fixture
def project(flown: Flown, tmp_path: Path) -> Iterator[Project]:
    """A copy of the flown project, to change."""
    folder = tmp_path / "project"
    shutil.copytree(flown.project.folder, folder, symlinks=True)
    yield Project(folder)
    shutil.rmtree(folder)
