"""Which Prefect server a flow tells: the one of PREFECT_API_URL, one on this machine, else a temporary one."""

from __future__ import annotations

import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from knowtune.errors import UserError

LOCAL = "http://127.0.0.1:4200/api"  # where `make serve` listens
QUIET = {  # no telemetry; time enough to start on a slow machine
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FORMAT": "%(asctime)s | %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FLOW_RUN_FMT": "%(asctime)s | %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_TASK_RUN_FMT": "%(asctime)s | %(task_run_name)s | %(message)s",
}
ENGINE = ("task_engine", "flow_engine")  # their lines repeat what ours say, and are on the page


def find_server() -> str | None:
    """Return the API address of the server to tell: the one that is set, or one that answers on this machine.

    Raises:
        UserError: the one that is set does not answer.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if url is None:
        return LOCAL if answers(LOCAL) else None
    with get_client(sync_client=True) as client:
        if error := client.api_healthcheck():
            raise UserError(
                f"PREFECT_API_URL: got {url}; no Prefect server answers there ({error}); "
                "start it, or unset the variable"
            )
    return url


@contextmanager
def prefect_server(url: str | None) -> Iterator[None]:
    """Let Prefect talk to the server of an address, or to a temporary one, for the length of a block."""
    import prefect.main  # noqa: F401  sets Prefect's logging up
    from prefect import settings

    updates: dict[Any, Any] = {settings.PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True}
    if url is None:
        print("no page to watch: no Prefect server answers; `make serve` in another terminal starts one", flush=True)
    else:
        updates[settings.PREFECT_API_URL] = url
    with settings.temporary_settings(updates), _quiet_console():
        yield


def answers(url: str) -> bool:
    """Tell whether a Prefect server answers at an API address."""
    with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


@contextmanager
def _quiet_console() -> Iterator[None]:
    """Keep what the engine says of itself off the console; the stages' own lines stay."""

    def ours(record: logging.LogRecord) -> bool:
        return record.module not in ENGINE

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
