from __future__ import annotations

import http.server
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.tracking import probe
from stages.tracking.probe import refusal, unreachable


@pytest.mark.parametrize("uri", ["file:///runs", "file:runs", "mlruns", "/runs/here"])
def test_folders_are_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "sqlite:///PATH/mlflow.db" in refusal(uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert refusal(uri) == ""


@pytest.mark.parametrize("uri", ["sqlite:///x.db", "http://h:5000", "postgresql://u@h/d", "databricks", "uc"])
def test_others_are_mlflows_business(uri: str) -> None:
    assert refusal(uri) == ""


@pytest.fixture
def silent() -> Iterator[int]:
    """A server that accepts and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_server_that_is_gone_or_silent(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ANSWER", 0.2)
    assert unreachable(f"http://ann:word@127.0.0.1:{silent}") == "no answer within 0.2 s"
    assert unreachable(f"postgresql://ann@127.0.0.1:{silent}/x") == ""  # it takes the connection
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for uri in (f"http://127.0.0.1:{port}", f"mysql://127.0.0.1:{port}/x"):
        assert unreachable(uri).startswith("ConnectionRefusedError")
    assert unreachable("http://127.0.0.1:99999") != ""


@pytest.mark.parametrize("code", [200, 401, 403, 404, 500])
def test_every_answer_is_an_answer(code: int) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert unreachable(f"http://ann:word@127.0.0.1:{server.server_address[1]}/") == ""
        thread.join()


def test_files_of_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ANSWER", 0.05)
    path = tmp_path / "runs.db"
    uri = f"sqlite:///{path}"
    assert unreachable(uri) == ""  # it will be made
    assert unreachable(f"sqlite:///{tmp_path}/no/runs.db") == f"no folder {tmp_path}/no"
    assert "unable to open" in unreachable(f"sqlite:///{tmp_path}")
    path.write_bytes(b"not a database" * 100)
    assert unreachable(uri) == f"{path}: file is not a database"
    path.unlink()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN IMMEDIATE")
    assert unreachable(uri) == f"{path}: database is locked"
    holder.execute("ROLLBACK")
    assert unreachable(uri) == ""
    holder.close()
