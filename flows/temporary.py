"""A Prefect server for one flow, where none runs: without pages, in a session of its own, ended with the flow.

In a session of its own a Ctrl-C in the terminal does not reach it, so the flow can still report how it ended. It reads
its standard input and ends when that closes, as it does when the flow is killed. Its records lie in the project, so
that no other project's server waits for them or moves them to another version.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from knowtune.common.errors import UserError

HOME = Path(".work/prefect")
PATIENCE = 120.0  # seconds to start; a first start makes the tables
LAST_LINES = 5


@contextmanager
def temporary_server(folder: Path) -> Iterator[str]:
    """Keep a server for the length of a block.

    Args:
        folder: the project or a workspace.

    Yields:
        The address of its API.

    Raises:
        UserError: it does not start.
    """
    home = (folder / HOME).resolve()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as output:
        listener = socket.create_server(("127.0.0.1", 0))
        api = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        own = {"PREFECT_HOME": str(home), "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT_UI_ENABLED": "0"}
        others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API_")}
        server = subprocess.Popen(
            [sys.executable, "-m", "flows.temporary", str(listener.fileno())],
            env={**others, **own},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[listener.fileno()],
        )
        listener.close()  # else whoever asks a server that has died would wait here for an answer
        try:
            end = time.monotonic() + PATIENCE
            while not answers(api):
                if server.poll() is not None or time.monotonic() > end:
                    output.seek(0)
                    lines = output.read().decode(errors="replace").splitlines()[-LAST_LINES:]
                    fault = "Prefect's temporary server does not start; `python -m cli run` needs none"
                    raise UserError(f"{fault}. Its last lines:\n" + "\n".join(lines))
                time.sleep(0.1)
            yield api
        finally:
            assert server.stdin is not None
            server.stdin.close()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(url: str, question: str = "health", seconds: float = 2) -> bool:
    """Tell whether a Prefect server answers at an API address; the question "ready" asks its database too."""
    return not fault_of(url, question, seconds)


def fault_of(url: str, question: str = "health", seconds: float = 2) -> str:
    """Say in which way a server does not answer a question within some seconds; "" where it does."""
    try:
        with urllib.request.urlopen(f"{url}/{question}", timeout=seconds) as answer:
            return "" if answer.status == 200 else f"answers {answer.status}"
    except urllib.error.HTTPError as error:
        return f"answers {error.code} {error.reason}"
    except TimeoutError:
        return f"does not answer within {seconds:g} s"
    except urllib.error.URLError as error:
        return f"does not answer ({getattr(error.reason, 'strerror', None) or error.reason})"
    except (OSError, HTTPException) as error:
        return f"does not answer ({error})"


def main() -> None:
    """Serve on the socket of a file number, until standard input closes."""
    import uvicorn
    from prefect.server.api.server import create_app

    server = uvicorn.Server(uvicorn.Config(create_app, factory=True, log_level="error", timeout_graceful_shutdown=2))

    def end() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=end, daemon=True).start()
    server.run([socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
