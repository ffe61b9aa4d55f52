"""The pipeline under attack from outside: its warm process killed, params edited on the way, secrets all around it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from stages.runner.warm import SOCKET
from tests.pipeline.conftest import ENVIRONMENT, ROOT, Project, copy_project, limited

LIMIT = 300.0  # seconds
SECRETS = {
    "MLFLOW_TRACKING_URI": "http://ann:store-passw0rd@127.0.0.1:9",
    "MLFLOW_TRACKING_TOKEN": "store-t0ken-of-mine",
    "HF_TOKEN": "hub-t0ken-of-mine",
    "AWS_SECRET_ACCESS_KEY": "aws-s3cret-of-mine",
    "PREFECT_API_KEY": "prefect-k3y-of-mine",
}
VALUES = ("store-passw0rd", *(value for name, value in SECRETS.items() if "URI" not in name))


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    """A project of which nothing has run; no method of PEFT's own, whose check imports PEFT."""
    project = copy_project(tmp_path / "fresh")
    project.change(lambda p: p["runs"].pop("prefix"))
    return project


def start(project: Project, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=project.folder,
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def below(process: subprocess.Popen[str], words: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if words in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def test_a_run_goes_on_without_its_warm_process(fresh: Project, finished: Project) -> None:
    """Stages import their libraries themselves then, and write the same bytes; stopped, it is the same (test_forks)."""
    process = start(fresh, "cli", "run", "base", **{SOCKET: ""})
    until(lambda: below(process, "stages.runner.forks"))
    below(process, "stages.runner.forks")[0].kill()
    told, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, told
    assert "the warm process does not answer" in told
    assert fresh.bytes("data/base") == finished.bytes("data/base")


def rename(params: dict[str, Any]) -> None:
    params["runs"]["renamed"] = params["runs"].pop("prefix")


def test_a_run_that_is_renamed_on_the_way_is_told_of_and_healed(project: Project) -> None:
    """DVC goes on with the name of the beginning."""
    project.change(lambda p: p["tracking"].update(store="mlflow"))
    project.change(lambda p: p["selections"]["some"]["options"].update(samples=9))
    process = start(project, "cli", "run", "train@prefix")
    until(lambda: below(process, "stages.select") or process.poll() is not None)
    project.change(rename)
    told, _ = process.communicate(timeout=LIMIT)
    assert "Traceback" not in told, told
    assert "KeyError" not in told
    assert "prefix" in told
    assert "tracked: experiment" in told
    assert "train@renamed" in project.run("train@renamed")


def leaks(project: Project, *told: str) -> list[str]:
    """Where a secret stands: in any file of the project, or in what was printed."""
    files = [p for p in project.folder.rglob("*") if p.is_file() and not p.is_symlink()]
    found = [str(path) for path in files if any(value.encode() in path.read_bytes() for value in VALUES)]
    return found + [line for text in told for line in text.splitlines() if any(value in line for value in VALUES)]


@pytest.mark.parametrize(
    ("command", "store"),
    [(("cli", "run", "prepare"), "mlflow"), (("flows", "prepare"), "mlflow"), (("dvc", "repro", "prepare"), "none")],
)
def test_no_secret_of_the_environment_is_printed_or_written(
    project: Project, tmp_path: Path, store: str, command: tuple[str, ...]
) -> None:
    """A stage fails and quotes what it was given, and the store is gone: both would have told before."""
    if command[0] == "flows":
        (project.folder / "flows").symlink_to(ROOT / "flows")
    project.change(lambda p: p["tracking"].update(store=store))
    stage = project.folder / "stages/prepare.py"
    stage.write_text(
        stage.read_text().replace(
            "def run(args: argparse.Namespace, params: Params) -> None:",
            "def run(args: argparse.Namespace, params: Params) -> None:\n"
            "    import logging, os, warnings\n"
            f"    told = ' '.join(os.environ.get(name, '') for name in {list(SECRETS)})\n"
            "    print(told); logging.warning(told); warnings.warn(told)\n"
            "    raise RuntimeError(told)\n",
        )
    )
    variables = {**SECRETS, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": ""}
    if command[0] == "flows":
        del variables["PREFECT_API_URL"]
    done = limited([sys.executable, "-m", *command], project.folder, {**ENVIRONMENT, **variables})
    assert done.returncode != 0
    assert "RuntimeError" in done.stdout + done.stderr
    assert "***" in done.stdout + done.stderr
    until(lambda: not [p for p in psutil.process_iter() if of(p, project)])
    assert leaks(project, done.stdout, done.stderr) == []
    if (tmp_path / "prefect").exists():
        assert leaks(Project(tmp_path / "prefect")) == []


def of(process: psutil.Process, project: Project) -> bool:
    """Whether a process is this project's tracker."""
    try:
        return "stages.tracking.tracker" in process.cmdline() and process.cwd() == str(project.folder)
    except psutil.Error:
        return False
