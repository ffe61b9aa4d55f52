from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.server import _pass_by_proxies
from flows.temporary import answers

ROOT = Path(__file__).resolve().parents[3]
PROFILE = """active = "work"

[profiles.work]
PREFECT_API_URL = "http://127.0.0.1:9/api"
"""

FIND = """
from pathlib import Path
from flows.server import find_server
from knowtune.common.errors import UserError
try:
    find_server(Path())
except UserError as error:
    print(error)
"""


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def healthy() -> Iterator[str]:
    """The address of a server that answers."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("before", ["", "example.org"])
def test_a_proxy_does_not_stand_before_this_machines_servers(
    healthy: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request._opener", None)  # one that an earlier request made knows no proxy
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, before)
    assert not answers(healthy)
    _pass_by_proxies()
    _pass_by_proxies()
    assert answers(healthy)
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == ",".join([before, "127.0.0.1", "localhost"]).lstrip(",")


def test_where_no_host_has_a_proxy_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    _pass_by_proxies()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "*"


def test_a_profile_with_a_dead_server_is_named(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text(PROFILE)
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    done = subprocess.run(
        [sys.executable, "-c", FIND],
        cwd=ROOT, env={**environment, "PREFECT_HOME": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert "PREFECT_API_URL of Prefect's profile: got http://127.0.0.1:9/api; no Prefect server" in done.stdout, done
    assert "unset it (`prefect config unset PREFECT_API_URL`); `python -m cli run` needs no server" in done.stdout
