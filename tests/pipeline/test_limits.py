"""A test of a command that hangs must end, and say what the command had said."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.pipeline.conftest import ENVIRONMENT, LIMIT, limited

HANGS = """
import subprocess
below = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(below.pid, flush=True)
below.wait()
"""


def test_a_command_that_hangs_is_ended_with_all_below_it(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"did not end within 2 s; it said:\n\d+") as caught:
        limited([sys.executable, "-c", HANGS], tmp_path, ENVIRONMENT, 2)
    below = int(str(caught.value).split("it said:\n")[1])
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(below)
        end = time.monotonic() + LIMIT
        while process.status() != psutil.STATUS_ZOMBIE:  # a killed process takes a moment to go
            assert time.monotonic() < end
            time.sleep(0.02)
