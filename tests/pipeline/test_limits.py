"""A test of a command that hangs must end, and say what the command had said."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.pipeline.conftest import ENVIRONMENT, limited

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
    assert not psutil.pid_exists(below) or psutil.Process(below).status() == psutil.STATUS_ZOMBIE
