from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from knowtune.models.masks import overlap, top_entries
from tests.pipeline.conftest import ENVIRONMENT, ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the scripts alone and by two gloo processes; each has saved what it trained and what it scored."""
    folder = tmp_path_factory.mktemp("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    for name, prefix in (("one", []), ("two", launch)):
        command = [
            sys.executable,
            *prefix,
            str(ROOT / "tests/pipeline/distributed_script.py"),
            str(folder / f"{name}.pt"),
        ]
        environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def saved(folder: Path, kind: str) -> list[dict[str, torch.Tensor]]:
    """What one process saved, and what two."""
    tables = [torch.load(folder / f"{name}.{kind}") for name in ("one", "two")]
    return [{key.removeprefix("module."): value for key, value in table.items()} for table in tables]


def test_two_processes_train_what_one_trains(folder: Path) -> None:
    """Weights measured again, penalty, replay and distillation under data-parallel training (gloo)."""
    one, two = saved(folder, "pt")
    assert set(one) == set(two)
    assert all(one[f"{granularity}.weights"].std() > 0.1 for granularity in ("example", "token"))
    moved = [value for key, value in one.items() if key.startswith("kasa.") and ".lora_B." in key]
    assert moved and all(bool(value.any()) for value in moved)
    assert len(one["preserved.replay"]) == 9
    assert bool((one["preserved.replay"] > 0).all())
    assert len(one["preserved.distill"]) < 9  # a share of .1 is less than a sequence a step
    far = {key: float((one[key] - two[key]).abs().max()) for key in one}
    assert max(far.values()) < 1e-6, far


def test_two_processes_score_what_one_scores(folder: Path) -> None:
    one, two = saved(folder, "scores")
    assert set(one) == set(two)
    for key in one:
        assert float((one[key] - two[key]).norm() / one[key].norm()) < 1e-5
    scores = [{k: v for k, v in found.items() if k != "traces" and "expected" not in k} for found in (one, two)]
    assert overlap(*(top_entries(found, 400) for found in scores)) >= 0.999
    assert sorted(p.name for p in folder.glob("two.work/partial-*")) == ["partial-0-of-2", "partial-1-of-2"]
