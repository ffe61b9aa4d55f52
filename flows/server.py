"""Which Prefect server a flow tells: the one of PREFECT_API_URL, one on this machine, else a temporary one."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flows.temporary import HOME, answers, fault_of, temporary_server
from knowtune.common.errors import UserError

LOCAL = "http://127.0.0.1:4200/api"  # where `make serve` listens
QUIET = {  # no telemetry; time enough to start on a slow machine
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FORMAT": "%(asctime)s | %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FLOW_RUN_FMT": "%(asctime)s | %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_TASK_RUN_FMT": "%(asctime)s | %(task_run_name)s | %(message)s",
}
ENGINE = ("task_engine", "flow_engine")  # their lines repeat what ours say, and are on the page
RUNS = ("prefect.flow_runs", "prefect.task_runs")
TRIES = "prefect._internal.concurrency"  # tells how each try to reach a dead server ends
PATIENCE = 10.0  # seconds for the last lines to reach the server
PAUSE, MISSES = 2.0, 3  # seconds between questions, and how many without an answer mean that a server is lost
READY, REQUEST = 5.0, 20.0  # seconds that it has to say that it is ready, and to answer a request of Prefect's
LOST = threading.Event()  # a server was lost while a flow ran


def home_fault() -> str:
    """Say why the folder in which Prefect keeps its own files cannot be written; "" where it can."""
    try:
        home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return ""
    except (OSError, RuntimeError) as error:  # RuntimeError: no home of this user is known
        return f"PREFECT_HOME: {error}"


def find_server(folder: Path) -> str | None:
    """Return the API address of the server to tell: the one that is set, or one that answers on this machine.

    Args:
        folder: the project or a workspace; Prefect's own files go below it where its home cannot be written.

    Raises:
        UserError: the one that is set does not answer.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    _pass_by_proxies()
    if fault := home_fault():
        os.environ["PREFECT_HOME"] = str((folder / HOME).resolve())
        print(f"{fault}; this run keeps Prefect's files in {folder / HOME} instead", file=sys.stderr)
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if url is None:
        return LOCAL if answers(LOCAL) else None
    with get_client(sync_client=True) as client:
        if error := client.api_healthcheck():
            of_profile = "PREFECT_API_URL" not in os.environ
            where = "PREFECT_API_URL of Prefect's profile" if of_profile else "PREFECT_API_URL"
            unset = "unset it (`prefect config unset PREFECT_API_URL`)" if of_profile else "unset the variable"
            raise UserError(
                f"{where}: got {url}; no Prefect server answers there ({error}); "
                f"start it, or {unset}; `python -m cli run` needs no server"
            )
    return url


def _pass_by_proxies() -> None:
    """Reach the servers of this machine directly, whatever proxy the environment names for others."""
    for name in ("NO_PROXY", "no_proxy"):
        known = [host for host in os.environ.get(name, "").split(",") if host]
        if "*" not in known:
            os.environ[name] = ",".join(dict.fromkeys([*known, "127.0.0.1", "localhost"]))


class ServerLostError(Exception):
    """The server died, or answered errors alone, before the flow had ended."""


@contextmanager
def prefect_server(url: str | None, folder: Path) -> Iterator[None]:
    """Let Prefect talk to the server of an address, or to a temporary one, for the length of a block.

    Raises:
        ServerLostError: the block failed by the server, or that does not answer any more.
    """
    import httpx
    import prefect.main  # noqa: F401  sets Prefect's logging up
    from prefect import settings
    from prefect.events.worker import EventsWorker
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.logging.handlers import APILogWorker

    with ExitStack() as stack:
        if url is None:
            hint = "`make serve` in another terminal starts one"
            print(f"no page to watch: no Prefect server answers; {hint}", flush=True)
            url = stack.enter_context(temporary_server(folder))
        updates: dict[Any, Any] = {settings.PREFECT_API_URL: url, settings.PREFECT_CLIENT_MAX_RETRIES: 2}
        updates[settings.PREFECT_API_REQUEST_TIMEOUT] = REQUEST
        stack.enter_context(settings.temporary_settings(updates))
        stack.enter_context(_quiet_console())
        stack.enter_context(_watch(url))
        try:
            yield
        except Exception as error:
            fault = fault_of(url, "ready", READY)
            if not fault and not isinstance(error, httpx.HTTPError | PrefectHTTPStatusError):
                raise
            raise ServerLostError(f"the Prefect server at {url} {fault or 'fails'}") from error
        finally:
            patience = PATIENCE if answers(url) else 0
            for worker in (APILogWorker, EventsWorker):  # what they hold is for this server, which may end here
                worker.drain_all(timeout=patience)


@contextmanager
def _watch(url: str) -> Iterator[None]:
    """Say once that a server is lost, instead of all that Prefect says on each of its tries to reach it."""
    ended = threading.Event()

    def watch() -> None:
        missed, fault = 0, ""
        while missed < MISSES and not ended.wait(PAUSE):
            fault = fault_of(url, "ready", READY)
            missed = missed + 1 if fault else 0
        if missed == MISSES or (fault := fault_of(url)):  # a flow that ends sooner says it too
            LOST.set()
            logging.getLogger(TRIES).addFilter(lambda record: False)
            text = f"the Prefect server at {url} {fault}; the stages go on without its page"
            print(text, file=sys.stderr, flush=True)

    logging.raiseExceptions = False  # Prefect's log handler asks this before it writes what it meets to standard error
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextmanager
def _quiet_console() -> Iterator[None]:
    """Keep what the engine and its clients say of themselves off the console; the stages' own lines stay."""

    def ours(record: logging.LogRecord) -> bool:
        return record.name.startswith(RUNS) and record.module not in ENGINE

    from prefect.logging.handlers import PrefectConsoleHandler

    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    handlers = {h for logger in loggers for h in logger.handlers if isinstance(h, PrefectConsoleHandler)}
    for handler in handlers:
        handler.addFilter(ours)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(ours)
