"""Points of a sweep as processes: each is `python -m cli run` in a workspace of its own, and all can be ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.sweeping.file import Point, Sweep
from knowtune.common.secrets import mask
from stages.core.params import write_yaml
from stages.tracking import point_environment

GRACE = 20.0  # seconds that an interrupted point has to end
LAST_LINES = 20
CHATTER = ("Stage '", "Updating lock file", "Use `dvc push`", "To track the changes", "> python", "WARNING: 'data/")


class Runner:
    """Runs points of one sweep as processes, and ends them all.

    Args:
        folder: of the sweep.
        plan: what its file says.
        identity: of the sweep in tracking.
        environment: of the processes.
    """

    def __init__(self, folder: Path, plan: Sweep, identity: str, environment: Mapping[str, str]) -> None:
        self.folder, self.name, self.identity = folder, plan.name, identity
        self._data = ["--data", plan.options.data] if plan.options.data else []
        self._environment = dict(environment)
        self._running: set[subprocess.Popen[str]] = set()
        self._guard = threading.Lock()
        self._stopped = False

    def params_file(self, point: Point) -> Path:
        """Return the params file of a point; its workspace lies beside it."""
        return self.folder / f"{point.name}.yaml"

    def workspace(self, point: Point) -> Path:
        """Return the workspace of a point."""
        return self.folder / point.name

    def run(self, point: Point, targets: Sequence[str], tell: Any) -> tuple[int, str]:
        """Reproduce targets in a point's workspace.

        Returns:
            The exit code, and the last lines of output.
        """
        write_yaml(self.params_file(point), dict(point.params))
        run = ["-m", "cli", "run", "--wait", "--params", str(self.params_file(point))]
        command = [sys.executable, *run, *self._data, *targets]
        tail: deque[str] = deque(maxlen=LAST_LINES)
        with self._guard:
            if self._stopped:
                return 130, ""
            process = subprocess.Popen(
                command,
                env={**self._environment, **point_environment(self.identity, self.name, point.run, point.label)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # a Ctrl-C reaches it once, from `stop`
            )
            self._running.add(process)
        assert process.stdout is not None
        with process, (self.folder / f"{point.name}.log").open("a", encoding="utf-8") as log:
            for line in process.stdout:
                if text := mask(line.rstrip()):
                    log.write(f"{text}\n")
                    tail.append(text)
                    if not text.startswith(CHATTER):
                        tell(text)
        with self._guard:
            self._running.discard(process)
        return (130 if self._stopped else process.returncode), "\n".join(tail)

    def stop(self) -> None:
        """Interrupt all that run, and kill what does not end soon."""
        with self._guard:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()  # `cli run` takes it as Ctrl-C, and hands it on
        for process in running:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
