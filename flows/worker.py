"""`python -m flows.worker`: Prefect's worker for processes, which outlives an outage of its server.

Prefect's own gives up after some minutes without an answer, or with errors alone, and ends the runs that it has
started, though these need no server to go on. This one asks again until it is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessWorker

from flows.schedules import POOL
from knowtune.common.secrets import mask_output

T = TypeVar("T")
Question = Callable[[], Coroutine[Any, Any, T]]
AT_ONCE = 4  # runs
BROKEN = 500  # HTTP status of a server at fault, and those above


def patient(ask: Question[T], nothing: T, tell: Callable[[str], object]) -> Question[T]:
    """Make a question to a server one that is answered even in an outage, which is told once.

    Args:
        ask: the server.
        nothing: the answer in its place.
        tell: takes what is to be said.

    Returns:
        The question. It fails as before where the server refuses it, and until the server has answered once: where none
        is at the start, the address is wrong.
    """
    met = lost = False

    async def patiently() -> T:
        nonlocal met, lost
        try:
            answer = await ask()
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < BROKEN
            if refused or not met:
                raise
            if not lost:
                tell("the Prefect server does not answer, or errors alone; what runs goes on")
            lost = True
            return nothing
        if lost:
            tell("the Prefect server answers again")
        met, lost = True, False
        return answer

    return patiently


def main() -> None:
    """Work until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.worker",
        description=__doc__,
        epilog="example:\n  PREFECT_API_URL=http://127.0.0.1:4200/api python -m flows.worker",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pool", default=POOL, help="the work pool to look after")
    args = parser.parse_args()
    mask_output()
    worker = ProcessWorker(work_pool_name=args.pool, limit=AT_ONCE)
    poll, tell = worker.get_and_submit_flow_runs, partial(print, file=sys.stderr, flush=True)
    worker.get_and_submit_flow_runs = patient(poll, list[FlowRun](), tell)  # type: ignore[method-assign]
    worker.sync_with_backend = patient(worker.sync_with_backend, None, lambda _: None)  # type: ignore[method-assign]
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(worker.start())


if __name__ == "__main__":
    main()
