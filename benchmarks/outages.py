"""A Prefect server that is slow, broken or silent while a flow runs: does the flow end, how much later, what is told?

    python -m benchmarks.outages                      # about 10 minutes on two quiet cores
    python -m benchmarks.outages --only slow,broken   # those alone

A real server stands behind a layer that spoils its answers. A small project (that of the tests of flows), of which the
base is built, is run once undisturbed, then afresh for each fault. A fault begins when the first stage has started, or,
`at once`, before the flow does. A row is good when the flow ends with 0, and every file below data/ is that of the
undisturbed run, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.responses import PlainTextResponse

from flows.lock import lock_entries
from flows.temporary import answers
from tests.flows.conftest import Flow, Runner, copy_small, free_port
from tests.pipeline.conftest import ENVIRONMENT, Project

FAULTS = {
    "slow": "every answer takes 5 to 20 s",
    "broken": "all but its health answers 500",
    "silent": "takes connections, never answers",
    "busy": "all but its health answers 503",
}
SLOW = 5.0, 20.0  # seconds
SWITCH = "/fault/"
Message = MutableMapping[str, Any]


class Spoiled:
    """An ASGI application before another one, which spoils its answers by the fault that is switched on."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._fault = "none"
        self._random = random.Random(0)

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Answer, or spoil the answer."""
        path = scope.get("path", "")
        if path.startswith(SWITCH):
            self._fault = path.removeprefix(SWITCH)
            return await PlainTextResponse(self._fault)(scope, receive, send)
        if scope["type"] != "lifespan":
            if self._fault == "slow":
                await asyncio.sleep(self._random.uniform(*SLOW))
            if self._fault == "silent":
                await asyncio.Event().wait()
            if self._fault in ("broken", "busy") and not path.endswith("/health"):
                return await PlainTextResponse("no", 500 if self._fault == "broken" else 503)(scope, receive, send)
        await self._application(scope, receive, send)
        return None


def serve(port: int) -> None:
    """Serve Prefect with spoiled answers, until killed."""
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(Spoiled(create_app()), port=port, log_level="error", timeout_graceful_shutdown=1)


@contextmanager
def server(home: Path) -> Iterator[str]:
    """Keep a server with spoiled answers; yield its address."""
    port = free_port()
    environment = {**ENVIRONMENT, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [sys.executable, "-m", "benchmarks.outages", "--serve", str(port)]
    process = subprocess.Popen(command, env=environment)
    try:
        while not answers(f"http://127.0.0.1:{port}/api"):
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@dataclass
class Case:
    """A fault, and when it begins."""

    fault: str
    at_once: bool

    def __str__(self) -> str:
        return f"{self.fault}{', at once' if self.at_once else ''}"


def main() -> int:
    """Run undisturbed, then with each fault; print a table.

    Returns:
        0 when every row is good.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(FAULTS), metavar="NAME,NAME", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--keep", type=Path, help="a folder for what each flow printed")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
    with tempfile.TemporaryDirectory(prefix="outages-") as top:
        place = Path(top)
        begun = copy_small(place / "begun")
        begun.command("cli", "run", "base")
        seconds, whole, _ = run(begun, place / "whole", Case("none", True))
        stages = len(lock_entries(whole.folder))
        print(f"undisturbed: {stages} stages, {seconds:.0f} s", flush=True)
        bad = 0
        for case in (Case(fault, at_once) for fault in args.only.split(",") for at_once in (False, True)):
            took, project, flow = run(begun, place / str(case).replace(", ", "-"), case)
            if args.keep:
                args.keep.mkdir(exist_ok=True)
                (args.keep / f"{case}.txt").write_text(flow.output)
            equal = project.bytes("data") == whole.bytes("data")
            bad += flow.code != 0 or not equal
            finished = len(lock_entries(project.folder))
            print(
                f"{case!s:16} {finished:2} of {stages} stages, code {flow.code}, {'equal' if equal else 'DIFFERS'}, "
                f"{took - seconds:+4.0f} s | {'; '.join(lines_on_server(flow)) or 'nothing'}",
                flush=True,
            )
    return 1 if bad else 0


def run(begun: Project, folder: Path, case: Case) -> tuple[float, Project, Flow]:
    """Run a whole flow beside a server of its own.

    Returns:
        The seconds that it took, the project, and what the flow printed.
    """
    project = Project(folder)
    shutil.copytree(begun.folder, folder, symlinks=True)
    with server(folder.with_name(f"{folder.name}.home")) as address:
        os.environ["PREFECT_API_URL"] = f"{address}/api"
        flows = Runner(f"{address}/api", folder.with_name(f"{folder.name}.own"))

        def spoil(line: str = "| > python") -> None:
            if "| > python" in line:
                httpx.post(f"{address}{SWITCH}{case.fault}", timeout=60)

        if case.at_once:
            spoil()
        began = time.monotonic()
        flow = flows(project, "--workers", "2", on_line=lambda line, _: None if case.at_once else spoil(line))
        return time.monotonic() - began, project, flow


def lines_on_server(flow: Flow) -> list[str]:
    """Return what a flow said of its server."""
    words = ("erver", "PREFECT", "Traceback")
    return [line for line in flow.output.splitlines() if any(word in line for word in words)]


if __name__ == "__main__":
    sys.exit(main())
