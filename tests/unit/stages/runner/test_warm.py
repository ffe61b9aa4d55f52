from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.runner.warm import SOCKET, forward

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that holds the project's code and params, and nothing else."""
    for name in ("knowtune", "stages", "params.yaml", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run_validate(place: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    options = ["--pipeline", "dvc.yaml", "--lock", "dvc.lock", "--out", "data/code"]
    command = [sys.executable, "-m", "stages.validate", *options]
    return subprocess.run(
        command, cwd=place, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_a_stage_runs_in_the_askers_folder_with_its_output_and_exit_code(warm: dict[str, str], place: Path) -> None:
    done = run_validate(place, warm)
    assert done.returncode == 0, done.stderr
    assert "stages/prepare.py" in json.loads((place / "data/code/prepare.json").read_text())


def test_an_error_comes_back_as_the_stages_own(warm: dict[str, str], place: Path) -> None:
    (place / "params.yaml").unlink()
    (place / "params.yaml").write_text("threads: 1\n")
    done = run_validate(place, warm)
    cold = run_validate(place, {})
    assert done.returncode == cold.returncode == 1
    assert done.stderr == cold.stderr
    assert "problems" in done.stderr


def test_the_child_dies_with_the_asker(warm: dict[str, str], place: Path) -> None:
    """A killed stage must not go on in the warm process."""
    (place / "data").mkdir()
    (place / "data/raw").symlink_to(ROOT / "data/raw")
    command = [sys.executable, "-m", "stages.base", "--source", "data/raw", "--out", "base"]
    environment = {**os.environ, **warm}
    with subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True) as asker:
        assert asker.stderr is not None
        for line in asker.stderr:
            if "steps an epoch" in line:
                asker.kill()
                break
        rest = asker.stderr.read()  # ends when the stage's process has closed its end too
    assert "checkpoint" not in rest
    assert not (place / "base").exists()


def test_without_a_socket_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKET, raising=False)
    assert forward("stages.validate", []) is None
    monkeypatch.setenv(SOCKET, "/nowhere/warm")
    assert forward("stages.validate", []) is None
