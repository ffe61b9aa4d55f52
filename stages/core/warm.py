"""A warm process: it imports the heavy libraries once and forks a child for every stage.

Importing torch, transformers' Trainer and peft takes 5 to 9 s on a slow core. Thirty stages would spend minutes on
it. Whoever starts a pipeline (`python -m cli run`) starts this process beside it and names its socket in the
environment. A stage that finds the socket hands its arguments, folder, environment and open files over and waits
for the exit code; without the socket, or where it does not answer, the stage runs where it is. dvc.yaml knows
nothing of it, and the bytes are the same.

Only third-party libraries are imported here, never the project's own code: a child imports that fresh after the fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOCKET = "KNOWTUNE_WARM_SOCKET"
QUIET = {  # no telemetry, no chatter; spinning threads would slow a neighbour on the same cores
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DVC_NO_ANALYTICS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "OMP_WAIT_POLICY": "passive",
}
LIBRARIES = (
    "pydantic",
    "ruamel.yaml",
    "pandas",
    "pandera.pandas",
    "torch",
    "transformers.trainer",
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "peft",
    "scipy.stats",
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
)


def forward(module: str, argv: list[str]) -> int | None:
    """Let the warm process run a stage.

    Returns:
        The stage's exit code, or None where there is no warm process to ask.
    """
    path = os.environ.get(SOCKET)
    if not path:
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError:
            return None
        task = {"module": module, "argv": argv, "cwd": os.getcwd(), "env": dict(os.environ)}
        message = json.dumps(task).encode()
        socket.send_fds(connection, [len(message).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(message)
        answer = connection.recv(16)
    if not answer:
        print(f"{module}: the stage's process was killed", file=sys.stderr)
        return 137
    return int(answer)


def serve(listener: socket.socket) -> None:
    """Import the libraries, then fork a child per request, until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the children's and the asker's business
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # else each collection in a child walks through the libraries' objects: 0.2 s, and their pages copied
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _child(connection)
        connection.close()


def _child(connection: socket.socket) -> None:
    """Run one stage in the place of the asker, tell its exit code, and end."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        head, files, _, _ = socket.recv_fds(connection, 8, 3)
        size = int.from_bytes(head, "big")
        message = b""
        while len(message) < size:
            message += connection.recv(size - len(message))
        task = json.loads(message)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        os.environ.clear()
        os.environ.update(task["env"])
        os.chdir(task["cwd"])
        sys.path[0] = task["cwd"]
        sys.argv = [task["module"], *task["argv"]]
        threading.Thread(target=_die_with, args=(connection,), daemon=True).start()
        from stages.core.command import execute

        code = execute(task["module"], task["argv"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(str(code).encode())
        os._exit(code)


def _die_with(connection: socket.socket) -> None:
    """End this process when the asker is gone, as if the asker itself had been killed."""
    with contextlib.suppress(OSError):
        if not connection.recv(1):
            os._exit(137)


@contextlib.contextmanager
def warm_process(folder: Path) -> Iterator[dict[str, str]]:
    """Keep a warm process at hand for the length of a block; it starts when the first stage asks for it.

    Args:
        folder: where `stages` is found.

    Yields:
        The environment variable that leads stages to it.
    """
    with tempfile.TemporaryDirectory(prefix="knowtune-") as place, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(place) / "warm")
        listener.bind(path)
        listener.listen(64)
        ending, end = os.pipe()
        server: list[subprocess.Popen[bytes]] = []

        def start_when_asked() -> None:
            sources: list[Any] = [listener, ending]
            if ending not in select.select(sources, [], [])[0]:
                quiet = {**QUIET, "OPENBLAS_NUM_THREADS": "1"}  # no thread may live in the parent when it forks
                command = [sys.executable, "-m", "stages.core.warm", str(listener.fileno())]
                server.append(
                    subprocess.Popen(
                        command,
                        cwd=folder,
                        stdin=subprocess.PIPE,
                        start_new_session=True,
                        pass_fds=[listener.fileno()],
                        env={**os.environ, **quiet},
                    )
                )

        waiting = threading.Thread(target=start_when_asked)
        waiting.start()
        try:
            yield {SOCKET: path}
        finally:
            os.write(end, b"x")
            waiting.join()
            for process in server:
                process.terminate()  # DVC is done, so no stage is left
                process.wait()
                if process.stdin:
                    process.stdin.close()
            os.close(ending)
            os.close(end)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
