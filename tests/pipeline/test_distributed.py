from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import torch

from tests.pipeline.conftest import ENVIRONMENT, ROOT


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    """Weighted loss and penalty under data-parallel training (gloo), against one process on the whole batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    found = []
    for name, prefix in (("one", []), ("two", launch)):
        out = tmp_path / f"{name}.pt"
        script = ["-m", *prefix, str(ROOT / "tests/pipeline/distributed_script.py")]
        command = [sys.executable, *(script if prefix else script[1:]), str(out)]
        environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append({key.removeprefix("module."): value for key, value in torch.load(out).items()})
    one, two = found
    assert set(one) == set(two)
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-6
