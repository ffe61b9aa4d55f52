"""Whether a store can be reached, asked in seconds and without MLflow: a quiet server must not hold anybody up."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

ANSWER = 5.0  # seconds that a server has to answer
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
FOLDERS = (
    "MLflow 3.14 and later keep no runs in plain folders; set it to sqlite:///PATH/mlflow.db or a server's address, "
    "or unset it"
)


def refusal(uri: str) -> str:
    """Return why MLflow does not take an address at all, or "" where it does."""
    scheme = urlsplit(uri).scheme
    word = uri.split("-")[0] in ("databricks", "uc")  # addresses of one word
    allowed = os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1")
    return FOLDERS if scheme in ("", "file") and not word and not allowed else ""


def unreachable(uri: str) -> str:
    """Return why a store cannot be worked with now, or "" where nothing speaks against it."""
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    if kind == "sqlite":
        return _sqlite(unquote(uri.partition(":///")[2].partition("?")[0]))
    try:
        port = parts.port or PORTS.get(kind)
    except ValueError as error:
        return str(error)
    if kind in ("http", "https"):
        return _within(ANSWER, lambda: _http(uri))
    if parts.hostname and port:
        host = parts.hostname
        return _within(ANSWER, lambda: socket.create_connection((host, port), ANSWER).close())
    return ""


def _http(uri: str) -> None:
    """Ask a server for anything; every answer will do, a refusal too, for MLflow's own question finds that out."""
    try:
        urllib.request.urlopen(f"{_without_user(uri).rstrip('/')}/health", timeout=ANSWER).close()
    except urllib.error.HTTPError as error:
        error.close()
    except urllib.error.URLError as error:
        if isinstance(error.reason, Exception) and "CERTIFICATE" not in str(error.reason):
            raise error.reason from None


def _without_user(uri: str) -> str:
    """Take user and password out of an address."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _sqlite(name: str) -> str:
    """Try whether a SQLite file is whole and can be written; one that is missing will be made."""
    if not name or name.startswith(":memory:"):
        return ""
    path = Path(name)
    if not path.exists():
        return "" if path.parent.is_dir() else f"no folder {path.parent}"
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=ANSWER, isolation_level=None)) as connection:
            connection.execute("PRAGMA schema_version")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        return f"{path}: {error}"
    return ""


def _within(seconds: float, action: Callable[[], object]) -> str:
    """Do something that may hang for a while at most; return what went wrong."""
    reasons: list[str] = [f"no answer within {seconds:g} s"]

    def attempt() -> None:
        try:
            action()
            reasons.append("")
        except (OSError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}" if not isinstance(error, TimeoutError) else reasons[0]
            reasons.append(reason)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds + 1)
    return reasons[-1]
