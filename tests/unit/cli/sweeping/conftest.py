from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sweeping.file import Sweep
from cli.sweeping.read import read_sweep

ROOT = Path(__file__).resolve().parents[4]
GRID = """
grid:
  runs.lora.options.rank: [4, 16]
  runs.lora.training.learning_rate: [0.001, 0.004]
objective: lora.generalisation
"""
STUDY = """
study: {trials: 3}
space:
  runs.lora.training.learning_rate: {low: 0.001, high: 0.1, log: true}
  runs.lora.options.rank: {low: 2, high: 8}
  runs.lora.method: [lora, kasa]
objective: lora.forgotten
direction: minimize
"""


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Sweep]:
    """Read a sweep's file beside the default params."""
    monkeypatch.chdir(ROOT)

    def read(text: str) -> Sweep:
        (tmp_path / "rank.yaml").write_text(text)
        return read_sweep(tmp_path / "rank.yaml")

    return read
