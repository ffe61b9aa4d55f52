"""`python -m flows.serve`: the pages to watch, Prefect's and MLflow's, and a worker for deployed runs, until Ctrl-C.

Addresses and ports are the tools' own settings: PREFECT_SERVER_API_HOST, PREFECT_SERVER_API_PORT, MLFLOW_HOST,
MLFLOW_PORT. Where MLFLOW_TRACKING_URI is a server's address, that server has a page already, and none is started.
A server or a worker that ends by itself is started again, unless it ends as soon as it is started.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

import psutil

from flows.schedules import POOL
from flows.server import QUIET, home_fault
from flows.temporary import answers
from knowtune.common.errors import UserError
from knowtune.common.secrets import mask, mask_output
from stages.tracking.addresses import address

MLFLOW_QUIET = {  # no telemetry, no chatter, none of the eight processes for jobs that nothing here asks for
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore",
}
MLFLOW = ("mlflow", "server", "--workers", "1", "--uvicorn-opts", "--log-level warning", "--backend-store-uri")
WORKER = ("flows.worker",)
PREFECT = {
    # slots of concurrency limits outlive the server that gave them; in its memory they would be taken for ever
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # on a busy machine SQLite is locked for longer than Prefect's own 5 and 10 seconds
    "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
}
PATIENCE = 120.0  # seconds that a server has to start
GRACE = 10.0  # seconds that each has to end
PAUSE = 5.0  # seconds before what has ended by itself is started again
AT_ONCE = 30.0  # seconds; what ends sooner will end again


def main() -> int:
    """Start all, print where they are, and end all when a server ends or on Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__)
    parser.add_argument("--no-worker", action="store_true", help="serve the pages alone")
    args = parser.parse_args()
    mask_output()
    environment = {**QUIET, **PREFECT, **MLFLOW_QUIET, **os.environ}
    signal.signal(signal.SIGTERM, _interrupt)
    served: list[Served] = []
    try:
        if fault := home_fault():
            raise UserError(f"{fault}; set it to a folder that you may write")
        prefect = f"http://{_address(environment, 'PREFECT_SERVER_API', 4200)}"
        own = {"PREFECT_UI_API_URL": f"{prefect}/api", "PREFECT_UI_URL": prefect}  # the latter is in notifications
        served.append(Served("Prefect's server", ("prefect", "server", "start"), {**own, **environment}))
        mlflow, page = address(), _runs_page(environment)
        if not mlflow.startswith("http"):
            served.append(Served("MLflow's server", (*MLFLOW, mlflow), environment))
            mlflow = f"http://{_address(environment, 'MLFLOW', 5000)}"
        for api in (f"{prefect}/api", mlflow):
            _wait(api, served)
        print(f"Prefect: {prefect}", flush=True)
        # what `mask_output` takes for a key in it is the name of a view
        print(f"MLflow:  {mask(mlflow).rstrip('/')}/{page}", file=sys.__stdout__, flush=True)
        if not args.no_worker:
            served.append(Served("the worker", WORKER, {"PREFECT_API_URL": f"{prefect}/api", **environment}))
            print(f"Worker:  pool {POOL}, for what `make deploy` deploys", flush=True)
        print("Ctrl-C ends all.", flush=True)
        _keep(served)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        _end([one.process for one in served])


@dataclass
class Served:
    """A server or a worker that is kept: in a session of its own, so that it is ended once, from here.

    Args:
        name: for people.
        words: the module that it is, and its arguments; it says only what goes wrong.
        environment: of its process.
    """

    name: str
    words: tuple[str, ...]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] = field(init=False)
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        command = [sys.executable, "-m", *self.words]
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, start_new_session=True
        )

    @property
    def ended(self) -> bool:
        """Tell whether it has ended."""
        return self.process.poll() is not None


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Take SIGTERM as Ctrl-C."""
    raise KeyboardInterrupt


def _address(environment: Mapping[str, str], prefix: str, port: int) -> str:
    """Return host and port of a tool's page, as its settings say."""
    return f"{environment.get(f'{prefix}_HOST', '127.0.0.1')}:{environment.get(f'{prefix}_PORT', port)}"


def _keep(served: list[Served]) -> NoReturn:
    """Start again what ends by itself: a run that a worker has started goes on without any server.

    Raises:
        UserError: something ends as soon as it is started.
    """
    while True:
        for one in served:
            if not one.ended:
                continue
            if time.monotonic() - one.began < AT_ONCE:
                raise UserError(f"{one.name} ended by itself; its messages stand above. Is its port taken?")
            print(f"{one.name} ended by itself; it is started again", file=sys.stderr, flush=True)
            with suppress(ProcessLookupError):  # what a kill has left of it; runs have sessions of their own
                os.killpg(one.process.pid, signal.SIGKILL)
            time.sleep(PAUSE)
            one.start()
        time.sleep(0.5)


def _runs_page(environment: Mapping[str, str]) -> str:
    """Make the store of the runs ready and return the path of their table on its server.

    Raises:
        UserError: it cannot be opened.
    """
    command = [sys.executable, "-m", "stages.tracking", "--page"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise UserError("MLflow's store cannot be opened; its messages stand above")
    return done.stdout.split()[-1]


def _wait(api: str, served: list[Served]) -> None:
    """Wait until a server answers, or one has ended."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not any(one.ended for one in served) and not answers(api):
        time.sleep(0.2)


def _end(servers: list[subprocess.Popen[bytes]]) -> None:
    """End all and what they have started, the worker first: its runs can still say how they ended."""
    for server in reversed(servers):
        below = []
        with suppress(psutil.Error):
            below = psutil.Process(server.pid).children(recursive=True)
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
        for process in below:  # runs, which have sessions of their own
            with suppress(psutil.Error):
                process.terminate()
        stubborn = psutil.wait_procs(below, GRACE)[1]
        for process in stubborn:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(stubborn, GRACE)  # a killed one is gone a moment later


if __name__ == "__main__":
    sys.exit(main())
