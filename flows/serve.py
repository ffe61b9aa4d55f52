"""`python -m flows.serve`: the pages to watch, Prefect's and MLflow's, side by side until Ctrl-C.

Addresses and ports are the tools' own settings: PREFECT_SERVER_API_HOST, PREFECT_SERVER_API_PORT, MLFLOW_HOST,
MLFLOW_PORT. Where MLFLOW_TRACKING_URI is a server's address, that server has a page already, and none is started.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from types import FrameType

from flows.server import QUIET, home_fault
from flows.temporary import answers
from knowtune.common.errors import UserError
from knowtune.common.secrets import mask_output

MLFLOW_QUIET = {  # no telemetry, no chatter, none of the eight processes for jobs that nothing here asks for
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore",
}
MLFLOW = ("mlflow", "server", "--workers", "1", "--uvicorn-opts", "--log-level warning", "--backend-store-uri")
PATIENCE = 120.0  # seconds that a server has to start


def main() -> int:
    """Start both, print where they are, and end both when one ends or on Ctrl-C."""
    argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__).parse_args()
    mask_output()
    environment = {**QUIET, **MLFLOW_QUIET, **os.environ}
    signal.signal(signal.SIGTERM, _interrupt)
    servers: list[subprocess.Popen[bytes]] = []
    try:
        if fault := home_fault():
            raise UserError(f"{fault}; set it to a folder that you may write")
        prefect = f"http://{_address(environment, 'PREFECT_SERVER_API', 4200)}"
        servers.append(_start({"PREFECT_UI_API_URL": f"{prefect}/api", **environment}, "prefect", "server", "start"))
        mlflow = _store(environment)
        if not mlflow.startswith("http"):
            servers.append(_start(environment, *MLFLOW, mlflow))
            mlflow = f"http://{_address(environment, 'MLFLOW', 5000)}"
        for api in (f"{prefect}/api", mlflow):
            _wait(api, servers)
        print(f"Prefect: {prefect}\nMLflow:  {mlflow}\nCtrl-C ends both.", flush=True)
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        raise UserError("a server ended by itself; its messages stand above. Is its port taken?")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        _end(servers)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Take SIGTERM as Ctrl-C."""
    raise KeyboardInterrupt


def _start(environment: Mapping[str, str], module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a server that says only what goes wrong, in a session of its own, so that it is ended once, from here."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


def _address(environment: Mapping[str, str], prefix: str, port: int) -> str:
    """Return host and port of a tool's page, as its settings say."""
    return f"{environment.get(f'{prefix}_HOST', '127.0.0.1')}:{environment.get(f'{prefix}_PORT', port)}"


def _store(environment: Mapping[str, str]) -> str:
    """Make the store of the runs ready and return its address.

    Raises:
        UserError: it cannot be opened.
    """
    command = [sys.executable, "-m", "stages.tracking"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise UserError("MLflow's store cannot be opened; its messages stand above")
    return done.stdout.split()[-1]


def _wait(api: str, servers: list[subprocess.Popen[bytes]]) -> None:
    """Wait until Prefect answers, or a server has ended."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and all(server.poll() is None for server in servers) and not answers(api):
        time.sleep(0.2)


def _end(servers: list[subprocess.Popen[bytes]]) -> None:
    """End the servers and all they have started."""
    for server in servers:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
    for server in servers:
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
