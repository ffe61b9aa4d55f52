"""Reproductions that meet: in one folder one waits or is told; in two workspaces both run; Ctrl-C ends all of one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from tests.pipeline.conftest import ENVIRONMENT, ROOT, Project, copy_project

LIMIT = 120.0  # seconds


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a stage that lasts until it is told to end."""
    project = copy_project(tmp_path / "project")
    project.change(lambda p: p["runs"].pop("prefix"))  # a method of PEFT's own, whose check imports PEFT
    path = project.folder / "dvc.yaml"
    pipeline = YAML(typ="safe").load(path)
    (project.folder / "stages/long.py").write_text(
        "import pathlib, time\npathlib.Path('begun').touch()\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\n"
    )
    pipeline["stages"]["long"] = {"cmd": "python stages/long.py", "deps": ["stages/long.py"]}
    YAML(typ="safe").dump(pipeline, path)
    return project


@pytest.fixture
def start(project: Project) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", *words]
        started.append(
            subprocess.Popen(
                command,
                cwd=project.folder,
                env=ENVIRONMENT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_a_second_one_is_told_or_waits(project: Project, start: Callable[..., subprocess.Popen[str]]) -> None:
    first = start("cli", "run", "long")
    until((project.folder / "begun").exists)
    second = project.command("cli", "run", "validate", check=False)
    assert second.returncode == 1
    assert f"python -m cli run long (process {first.pid}, since " in second.stderr
    assert "is at work here; wait for it to end, or add --wait (make: WAIT=1)" in second.stderr
    assert "ERROR" not in second.stdout + second.stderr
    (project.folder / "flows").symlink_to(ROOT / "flows")
    flow = project.command("flows", "validate", check=False)
    assert (flow.returncode, flow.stderr) == (1, second.stderr)
    third = start("cli", "run", "--wait", "validate")
    assert third.stdout is not None
    assert f"waiting for python -m cli run long (process {first.pid}" in third.stdout.readline()
    (project.folder / "go").touch()
    assert (first.wait(LIMIT), third.wait(LIMIT)) == (0, 0)


def test_plain_dvc_is_told_of_too(project: Project, start: Callable[..., subprocess.Popen[str]]) -> None:
    first = start("dvc", "repro", "long")
    until((project.folder / "begun").exists)
    second = project.command("cli", "run", "long", check=False)
    assert second.returncode == 1
    assert f"dvc repro long (process {first.pid}, since " in second.stderr
    (project.folder / "go").touch()
    assert first.wait(LIMIT) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_of_it(
    project: Project, start: Callable[..., subprocess.Popen[str]], number: int
) -> None:
    process = start("cli", "run", "long")
    until((project.folder / "begun").exists)
    below = psutil.Process(process.pid).children(recursive=True)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)  # as `kill`, a container or a scheduler does
    told, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, told
    assert "finished stages and seeds are kept, the same command goes on" in told
    until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in below))


def test_two_workspaces_run_side_by_side(project: Project, start: Callable[..., subprocess.Popen[str]]) -> None:
    for name in ("a", "b"):
        shutil.copy(project.folder / "params.yaml", project.folder / f"{name}.yaml")
    both = [start("cli", "run", "--params", f"{name}.yaml", "validate") for name in ("a", "b", "a")]
    told = [process.communicate(timeout=LIMIT)[0] for process in both]
    codes = [process.returncode for process in both]
    assert codes[1] == 0, told[1]
    assert sorted((codes[0], codes[2])) in ([0, 0], [0, 1])  # the same one twice: one after the other, or told
    if 1 in codes:
        assert "is at work here" in told[codes.index(1)]
    for name in ("a", "b"):
        assert (project.folder / f"workspaces/{name}/data/code").is_dir()


def test_params_of_a_workspace_stay_as_they_are_while_it_runs(
    project: Project, start: Callable[..., subprocess.Popen[str]]
) -> None:
    shutil.copy(project.folder / "params.yaml", project.folder / "a.yaml")
    folder = project.folder / "workspaces/a"
    process = start("cli", "run", "--params", "a.yaml", "long")
    until((folder / "begun").exists)
    before = (folder / "params.yaml").read_bytes()
    params = YAML(typ="safe").load(project.folder / "a.yaml")
    params["prepare"]["max_texts"] += 1
    YAML(typ="safe").dump(params, project.folder / "a.yaml")
    second = project.command("cli", "plan", "--params", "a.yaml", check=False)
    assert second.returncode == 1
    assert f"(process {process.pid}, since " in second.stderr
    assert (folder / "params.yaml").read_bytes() == before
    (folder / "go").touch()
    assert process.wait(LIMIT) == 0
