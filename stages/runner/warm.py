"""A warm process at hand: how one is started, asked and ended; `stages.runner.forks` is the process itself.

Importing torch, transformers' Trainer and peft takes 5 to 9 s on a slow core. Thirty stages would spend minutes on
it. Whoever starts a pipeline (`python -m cli run`) starts this process beside it and names its socket in the
environment. A stage that finds the socket hands its arguments, folder, environment and open files over and waits
for the exit code; without the socket, or where nobody answers it (any more), the stage runs where it is. dvc.yaml
knows nothing of it, and the bytes are the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.runner.forks import GO, INTERRUPT, READY

SOCKET = "KNOWTUNE_WARM_SOCKET"
PATIENCE = (
    120.0  # seconds that a child has to say that it is there; on a busy machine the imports take most of a minute
)
SHORT = ("/tmp", "/var/tmp")  # folders with short names, where that of TMPDIR is too long for a socket
QUIET = {  # no telemetry, no chatter; spinning threads would slow a neighbour on the same cores
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DVC_NO_ANALYTICS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "OMP_WAIT_POLICY": "passive",
}
HEAP = {  # of glibc: a step's large temporaries are taken from memory that is there, instead of fresh pages each time
    "MALLOC_MMAP_THRESHOLD_": str(2**26),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
}


def forward(module: str, argv: list[str]) -> int | None:
    """Let the warm process run a stage.

    Nothing runs twice: the child says that it is there, and starts when it has heard back. Whoever dies before that,
    the stage has not begun, and runs where it is; a child that dies later takes its stage with it.

    Returns:
        The stage's exit code, or None where no warm process answers.
    """
    path = os.environ.get(SOCKET)
    if not path or not Path(path).is_socket():
        return None
    task = {"module": module, "argv": argv, "cwd": os.getcwd(), "env": dict(os.environ)}
    message = json.dumps(task).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(path)
            socket.send_fds(connection, [len(message).to_bytes(8, "big")], [0, 1, 2])
            connection.sendall(message)
            if connection.recv(1) != READY:
                raise ConnectionError("no child")
            connection.sendall(GO)
        except OSError:
            Path(path).unlink(missing_ok=True)  # later stages need not try
            print(f"{module}: the warm process does not answer; stages import their libraries again", file=sys.stderr)
            return None
        connection.settimeout(None)
        return _outcome(module, connection)


def warm_up(environment: Mapping[str, str]) -> None:
    """Let the warm process of an environment import now, while something else is awaited, for the stages to come."""
    with contextlib.suppress(OSError, KeyError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(environment[SOCKET])  # whoever asks for nothing starts it all the same


def _outcome(module: str, connection: socket.socket) -> int:
    """Wait for a child's exit code; Ctrl-C is passed on, and how the stage ends is the child's business."""
    while True:
        try:
            answer = connection.recv(16)
            break
        except KeyboardInterrupt:
            with contextlib.suppress(OSError):
                connection.sendall(INTERRUPT)
        except OSError:
            answer = b""
            break
    if not answer:
        print(f"{module}: the stage's process was killed", file=sys.stderr)
        return 137
    return int(answer)


@contextlib.contextmanager
def warm_process(folder: Path) -> Iterator[dict[str, str]]:
    """Keep a warm process at hand for the length of a block; it starts when the first stage asks for it.

    One that the environment names already serves this block too: several runs in a row share its imports.

    Args:
        folder: the one that holds `stages`.

    Yields:
        The environment variable that leads stages to it; nothing where no socket can be made.
    """
    inherited = os.environ.get(SOCKET)
    if inherited and Path(inherited).is_socket():
        yield {SOCKET: inherited}
        return
    with contextlib.ExitStack() as stack:
        listener = _listen(stack)
        if listener is None:
            print("no warm process: no folder takes a socket (see TMPDIR); every stage imports its libraries itself")
            yield {}
            return
        ending, end = os.pipe()
        server: list[subprocess.Popen[bytes]] = []

        def start_on_demand() -> None:
            sources: list[Any] = [listener, ending]
            try:
                if ending not in select.select(sources, [], [])[0]:
                    server.append(_start(folder, listener))
            except OSError as error:
                print(f"no warm process: {error}; every stage imports its libraries itself", file=sys.stderr)
            finally:
                listener.close()  # the server alone holds it: once that is killed, those who ask see it at once

        waiting = threading.Thread(target=start_on_demand)
        path = listener.getsockname()
        waiting.start()
        try:
            yield {SOCKET: path}
        finally:
            os.write(end, b"x")
            waiting.join()
            for process in server:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)  # DVC is done: whatever stage is left, nobody takes its outs
                process.wait()
                if process.stdin:
                    process.stdin.close()
            os.close(ending)
            os.close(end)


def _listen(stack: contextlib.ExitStack) -> socket.socket | None:
    """Make a socket that only this user reaches; a path of more than about 100 characters is too long for one."""
    for folder in (None, *SHORT):
        with contextlib.suppress(OSError), contextlib.ExitStack() as attempt:
            temporary = tempfile.TemporaryDirectory(prefix="knowtune-", dir=folder, ignore_cleanup_errors=True)
            path = Path(attempt.enter_context(temporary)) / "warm"
            listener = attempt.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            listener.listen(64)
            stack.enter_context(attempt.pop_all())
            return listener
    return None


def _start(folder: Path, listener: socket.socket) -> subprocess.Popen[bytes]:
    """Start the warm process in a session of its own; one that somebody stops is of no use, and is killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.runner.forks", str(listener.fileno())],
        cwd=folder,
        stdin=subprocess.PIPE,
        start_new_session=True,
        pass_fds=[listener.fileno()],
        env={**HEAP, **os.environ, **QUIET, "OPENBLAS_NUM_THREADS": "1"},  # no thread may live in a parent that forks
    )
    threading.Thread(target=_end_if_stopped, args=(process,), daemon=True).start()
    return process


def _end_if_stopped(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process ends or is stopped (SIGSTOP), and kill it then."""
    with contextlib.suppress(AttributeError, ChildProcessError):  # not every system has waitid
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        process.kill()
