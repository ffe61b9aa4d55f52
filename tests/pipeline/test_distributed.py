from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import torch

from knowtune.models.masks import overlap, top_entries
from tests.pipeline.conftest import ENVIRONMENT, ROOT


def in_one_and_two_processes(script: str, tmp_path: Path) -> list[dict[str, torch.Tensor]]:
    """Run a script alone and by two gloo processes; return what each saved."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    found = []
    for name, prefix in (("one", []), ("two", launch)):
        out = tmp_path / f"{name}.pt"
        arguments = ["-m", *prefix, str(ROOT / "tests/pipeline" / script)]
        command = [sys.executable, *(arguments if prefix else arguments[1:]), str(out)]
        environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append({key.removeprefix("module."): value for key, value in torch.load(out).items()})
    return found


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    """Weights measured again, penalty, replay and distillation under data-parallel training (gloo)."""
    one, two = in_one_and_two_processes("distributed_script.py", tmp_path)
    assert set(one) == set(two)
    assert all(one[f"{granularity}.weights"].std() > 0.1 for granularity in ("example", "token"))
    assert len(one["preserved.replay"]) == 9
    assert bool((one["preserved.replay"] > 0).all())
    assert len(one["preserved.distill"]) < 9  # a share of .1 is less than a sequence a step
    far = {key: float((one[key] - two[key]).abs().max()) for key in one}
    assert max(far.values()) < 1e-6, far


def test_two_processes_score_what_one_scores(tmp_path: Path) -> None:
    one, two = in_one_and_two_processes("distributed_scoring_script.py", tmp_path)
    assert set(one) == set(two)
    for key in one:
        assert float((one[key] - two[key]).norm() / one[key].norm()) < 1e-5
    scores = [{k: v for k, v in found.items() if k != "traces" and "expected" not in k} for found in (one, two)]
    assert overlap(*(top_entries(found, 400) for found in scores)) >= 0.999
    assert sorted(p.name for p in (tmp_path / "two.work").iterdir()) == ["partial-0-of-2", "partial-1-of-2"]
