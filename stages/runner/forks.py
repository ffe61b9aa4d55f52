"""The warm process: it imports the heavy libraries once and forks a child for every stage (see `stages.runner.warm`).

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
import sys
import threading
from typing import Any

READY, GO, INTERRUPT = b"r", b"g", b"i"  # sent by a child; by the asker
LIBRARIES = (
    "pydantic",
    "ruamel.yaml",
    "pandas",
    "pandera.pandas",
    "pandera.backends.pandas.builtin_checks",  # which it imports when it first checks a table
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


def serve(listener: socket.socket) -> None:
    """Import the libraries, then fork a child per request, until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the children's and the asker's business
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.disable()  # imports make no garbage, and to look for it takes a quarter of their time
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # else each collection in a child walks through the libraries' objects: 0.2 s, and their pages copied
    gc.enable()
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        with contextlib.suppress(OSError):  # no process to be had: the asker sees the connection close
            if os.fork() == 0:
                listener.close()
                _child(connection)
        connection.close()


def _receive(connection: socket.socket) -> dict[str, Any] | None:
    """Take a task and its open files, and agree with the asker to begin; None where the asker is gone."""
    try:
        head, files, _, _ = socket.recv_fds(connection, 8, 3)
        size = int.from_bytes(head, "big")
        with connection.makefile("rb") as stream:
            message = stream.read(size)
        if len(head) < 8 or len(files) < 3 or len(message) < size:
            return None
        connection.sendall(READY)
        if connection.recv(1) != GO:
            return None
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        return dict(json.loads(message))
    except Exception:
        return None


def _child(connection: socket.socket) -> None:
    """Run one stage for the asker, send its exit code, and end, wherever an interrupt arrives."""
    code = 1
    task = _receive(connection)
    if task is None:
        os._exit(0)
    try:
        try:
            code = _run(task, connection)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            from stages.runner.execute import report_interrupt

            code = report_interrupt(task["module"].rpartition(".")[2])
        except BaseException:
            import traceback

            traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(str(code).encode())
    finally:
        os._exit(code)


def _run(task: dict[str, Any], connection: socket.socket) -> int:
    """Become the asker's process: its files, environment, folder and code; run its stage."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(task["env"])
    os.chdir(task["cwd"])
    sys.path[0] = task["cwd"]
    for name in [name for name in sys.modules if name.partition(".")[0] == "stages"]:
        del sys.modules[name]  # this module's packages, which may lie in another folder than the stage's code
    sys.argv = [task["module"], *task["argv"]]
    threading.Thread(target=_follow, args=(connection,), daemon=True).start()
    from stages.runner.execute import execute

    return execute(task["module"], task["argv"])


def _follow(connection: socket.socket) -> None:
    """End this process when the asker is gone, as if the asker itself had been killed; take Ctrl-C from it."""
    with contextlib.suppress(OSError):
        while connection.recv(1):
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(137)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
