"""One stage, run by DVC in a process of its own, and what became of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.graph import mend_lock_in_turn
from knowtune.common.secrets import mask

LAST_LINES = 20
GRACE = 10.0  # seconds that an interrupted stage has to end
NETWORK = 75  # EX_TEMPFAIL of sysexits.h: a stage says that trying again may help
KILLED = {137, 143, -signal.SIGKILL, -signal.SIGTERM}
CUT = re.compile(r"dvc\.lock' (is invalid|validation failed)")
BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    `kind` is one of: ran, cached (DVC had the result), unchanged; failed, killed, busy, unreachable, cut; stopped.
    """

    kind: str
    last_lines: str


class Processes:
    """The processes of one reproduction, so that all of them can be ended at once."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._running: set[subprocess.Popen[str]] = set()
        self._guard = threading.Lock()
        self._stopped = False

    def reproduce(self, address: str, *, force: bool, tell: Callable[[str], object]) -> Outcome:
        """Let DVC reproduce one stage, and wait for it.

        Args:
            address: of the stage.
            force: run it though nothing has changed.
            tell: takes each line of its output as it comes.
        """
        command = [sys.executable, "-m", "flows.dvc", "--wait-for-lock", "repro", "--single-item", address]
        process = self._start([*command, *(["--force"] if force else [])])
        if process is None:
            return Outcome("stopped", "")
        assert process.stdout is not None
        head: list[str] = []
        tail: deque[str] = deque(maxlen=LAST_LINES)
        for line in process.stdout:
            if text := mask(line.rstrip()):
                tell(text)
                tail.append(text)
                head = [*head, text] if len(head) < LAST_LINES else head
        code = process.wait()
        if self._stopped and code != 0:
            return Outcome("stopped", "")
        kind = verdict(code, address, head, list(tail))
        if kind in ("killed", "cut"):
            mend_lock_in_turn(self._folder)  # the next try, and DVC of the stages beside, read it
        return Outcome(kind, "\n".join(tail))

    def stop(self) -> None:
        """Interrupt all that run, as Ctrl-C would, and kill what does not end soon; none starts any more."""
        with self._guard:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGINT)
        deadline = time.monotonic() + GRACE
        for process in running:
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)

    def _start(self, command: list[str]) -> subprocess.Popen[str] | None:
        """Start a process in a session of its own, so that a Ctrl-C reaches it once, from `stop`."""
        with self._guard:
            if self._stopped:
                return None
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
            self._running.add(process)
        threading.Thread(target=self._clear_up, args=(process,), daemon=True).start()
        return process

    def _clear_up(self, process: subprocess.Popen[str]) -> None:
        """End what DVC leaves behind when it was killed itself: a stage whose outs nobody would take."""
        process.wait()
        _signal(process, signal.SIGKILL)
        with self._guard:
            self._running.discard(process)


def verdict(code: int, address: str, head: list[str], tail: list[str]) -> str:
    """Say how a stage ended, from DVC's exit code and what it printed.

    Args:
        code: DVC's exit code.
        address: of the stage.
        head: its first lines; DVC says there what it does with the stage.
        tail: its last lines; DVC says there how the stage's own process ended.
    """
    if code == 0:
        if f"Stage '{address}' didn't change, skipping" in head:
            return "unchanged"
        return "cached" if f"Stage '{address}' is cached - skipping run, checking out outputs" in head else "ran"
    ended = re.search(r"exited with (-?\d+)$", tail[-1]) if tail else None
    own = int(ended[1]) if ended else None
    if code in KILLED or own in KILLED:
        return "killed"
    if own == NETWORK:
        return "unreachable"
    if own is None and any(CUT.search(line) for line in tail):
        return "cut"
    return "busy" if own is None and any(word in line for line in tail for word in BUSY) else "failed"


def _signal(process: subprocess.Popen[str], number: int) -> None:
    """Send a signal to a process and all it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
