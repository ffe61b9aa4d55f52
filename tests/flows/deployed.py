"""What a person does with deployments, for the tests: deploy, wait for a run, kill its worker, listen for failures."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psutil

from flows.lock import ENTRY
from stages.core.params import read_yaml, write_yaml
from tests.flows.conftest import ROOT, Flow, Runner, get, is_stage, post
from tests.pipeline.conftest import Project

PATIENCE = 240.0  # seconds
SOON = 10  # seconds until the schedule of a test fires, counted from before it is deployed; else a minute later
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def deploy(flows: Runner, project: Project, *arguments: str) -> str:
    """Deploy the project's own prefect.yaml, its nightly run once a minute from a few seconds on."""
    wanted = read_yaml(ROOT / "prefect.yaml")
    (nightly,) = (one for one in wanted["deployments"] if one["name"] == "nightly")
    start = datetime.now(UTC) + timedelta(seconds=SOON)
    nightly["schedules"] = [{"slug": "soon", "interval": 60, "anchor_date": start.isoformat(), "timezone": "UTC"}]
    write_yaml(project.folder / "prefect.yaml", wanted)
    command = [sys.executable, "-m", "flows.deploy", *arguments]
    done = subprocess.run(
        command, cwd=project.folder, env=flows.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def until(what: Callable[[], Any]) -> Any:
    """Wait for something to be true, and return it."""
    end = time.monotonic() + PATIENCE
    while not (value := what()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return value


def post_again(url: str, body: dict[str, Any]) -> httpx.Response | None:
    """Post, unless the server says that its database is locked, as Prefect's own client knows it."""
    answer = post(url, json=body)
    return None if answer.status_code == 503 else answer


@dataclass
class Deployed:
    """Runs of one project's deployments, as the server has them."""

    api: str
    name: str  # of the project's flow

    def ask(self, deployment: str, **parameters: Any) -> str:
        """Start a run, and return its id."""
        there = get(f"{self.api}/deployments/name/{self.name}/{deployment}").json()["id"]
        url, body = f"{self.api}/deployments/{there}/create_flow_run", {"parameters": parameters}
        answer = until(lambda: post_again(url, body))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def run(self, run: str) -> dict[str, Any]:
        return dict(get(f"{self.api}/flow_runs/{run}").json())

    def first(self) -> str:
        """Wait until a schedule has started a run, pause its deployment, and return the run's id."""
        body = {"flows": {"name": {"any_": [self.name]}}, "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}

        def running() -> list[dict[str, Any]]:
            runs = post(f"{self.api}/flow_runs/filter", json=body).json()
            return [run for run in runs if run["deployment_id"]]

        run = until(running)[0]
        until(lambda: post_again(f"{self.api}/deployments/{run['deployment_id']}/pause_deployment", {}))
        return str(run["id"])

    def end(self, run: str) -> tuple[str, str]:
        """Wait until a run has ended; return its state and what it says."""
        until(lambda: self.run(run)["state_type"] in FINAL)
        state = self.run(run)["state"]
        return state["name"], state["message"]

    def inner(self, run: str) -> Flow:
        """The run of the stages below a run."""
        body = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}}
        (below,) = post(f"{self.api}/flow_runs/filter", json=body).json()
        return Flow(0, f"page: http://x/{below['id']}", self.api)

    def log(self, run: str) -> str:
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
        return "\n".join(line["message"] for line in post(f"{self.api}/logs/filter", json=body).json())


def kill_worker(flows: Runner, project: Project) -> None:
    """Kill the worker of `make serve` and all it has started, once one run is trained and another one is not.

    DVC of the first has ended by then: a kill while it writes dvc.lock would leave that cut, the result in the cache.
    """
    lock = project.folder / "dvc.lock"

    def entry() -> str:
        entries = {match["stage"]: match[0] for match in ENTRY.finditer(lock.read_text())}
        return entries.get("train@short", "")

    before = entry()
    until(lambda: entry() not in ("", before))
    until(lambda: not any(is_stage(process, "flows.dvc", "train@short") for process in psutil.process_iter()))
    assert any(is_stage(process, "stages.train", "long") for process in psutil.process_iter())
    (worker,) = (p for p in psutil.Process(flows.served_by).children() if "flows.worker" in p.cmdline())
    for process in [worker, *worker.children(recursive=True)]:
        process.kill()


@contextmanager
def listener() -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine: its address, and the bodies of what it is sent."""
    bodies: list[str] = []

    class Take(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Take) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", bodies
        server.shutdown()


def make_block(api: str, url: str) -> str:
    """Make a notification block that posts to an address; return it as TYPE/NAME."""
    kind = get(f"{api}/block_types/slug/custom-webhook").json()["id"]
    body = {"block_schemas": {"block_type_id": {"any_": [kind]}}}
    schema = post(f"{api}/block_schemas/filter", json=body).json()[0]["id"]
    data = {"name": "Local", "url": url, "method": "POST", "json_data": {"text": "{{subject}}\n{{body}}"}}
    block = {"name": "local", "block_type_id": kind, "block_schema_id": schema, "data": data}
    made = until(lambda: post_again(f"{api}/block_documents/", block))
    assert made.status_code == 201, made.text
    return "custom-webhook/local"
