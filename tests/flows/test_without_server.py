"""Flows where no Prefect server answers, or where it dies: the stages' results count, the server's words do not."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.lock import lock_entries
from flows.pipeline import project_name
from flows.temporary import HOME
from tests.flows.conftest import Flow, Runner, copy_small, run_base
from tests.pipeline.conftest import Project, once

PATIENCE = 10.0  # seconds
NOISE = ("Traceback", "Error logging to API", "failed to process item", "ConnectError", "Retrying")


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Starts flows that know no server; Prefect's home is a new one."""
    monkeypatch.setattr("tests.flows.conftest.LIMIT", 240.0)
    runner = Runner("", tmp_path / "home")
    del runner.environment["PREFECT_API_URL"]
    return runner


@pytest.fixture
def fresh(tmp_path: Path, tables: Path) -> Iterator[Project]:
    """A project of which nothing has run."""
    project = copy_small(tmp_path / "fresh")
    copy_tables(tables, project)
    yield project
    until_nothing_is_left(project)


@pytest.fixture
def begun(tmp_path: Path, tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy of a project of which the base is built."""
    project = Project(tmp_path / "begun")
    shutil.copytree(once(tmp_path_factory, "begun", run_base), project.folder, symlinks=True)
    copy_tables(tables, project)
    yield project
    until_nothing_is_left(project)


def copy_tables(tables: Path, project: Project) -> None:
    """Give a project's temporary server its tables; the first server of a project would make them."""
    (project.folder / HOME).mkdir(parents=True)
    shutil.copy(tables, project.folder / HOME)


def until_nothing_is_left(project: Project) -> None:
    """Wait until no temporary server and no stage lives; a stage of the warm process ends when its asker is gone."""
    end = time.monotonic() + PATIENCE
    while left := [
        p.info for p in psutil.process_iter(["pid", "cmdline", "cwd"]) if p.info["cwd"] == str(project.folder)
    ]:
        assert time.monotonic() < end, left
        time.sleep(0.05)


def until_it_asks(process: psutil.Process, module: str) -> None:
    """Wait until a stage is connected to the warm process; an interrupt of Python's own start leaves a traceback."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if module in child.cmdline() and child.net_connections("unix"):
                    return
        time.sleep(0.01)


def is_quiet(flow: Flow) -> bool:
    return not any(word in flow.output for word in NOISE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_the_whole_group_ends_soon_and_keeps_what_is_finished(
    number: int, alone: Runner, begun: Project
) -> None:
    sent: list[int] = []

    def interrupt(line: str, process: psutil.Process) -> None:
        if "| prepare | > python" in line and not sent:
            until_it_asks(process, "stages.prepare")
            sent.append(process.pid)
            os.killpg(process.pid, number)

    flow = alone(begun, "prepare", on_line=interrupt)
    assert sent
    assert (flow.code, is_quiet(flow)) == (130, True), flow.output
    last = flow.output.splitlines()[-1]
    assert last == "interrupted; what is finished is kept, the same command goes on from there"
    assert lock_entries(begun.folder) == ["validate", "base"]
    if number == signal.SIGINT:  # what both leave is the same
        again = alone(begun, "prepare")
        assert again.code == 0, again.output
        assert again.output.splitlines()[-1].endswith("| stages: 2 up to date, 1 ran")


def test_a_server_that_dies_ends_no_stage_and_fills_no_page(alone: Runner, begun: Project) -> None:
    killed: list[int] = []

    def kill(line: str, process: psutil.Process) -> None:
        if "| prepare | > python" in line and not killed:
            server = next(p for p in process.children() if "flows.temporary" in p.cmdline())
            server.kill()
            killed.append(server.pid)

    flow = alone(begun, "answers", on_line=kill)
    assert killed
    assert (flow.code, is_quiet(flow)) == (0, True), flow.output
    died = [line for line in flow.output.splitlines() if line.endswith("; the stages go on without its page")]
    assert len(died) == 1  # in the middle, or at the end where the stages end before it is noticed
    assert [line for line in flow.output.splitlines() if line not in died][-1].endswith("| stages: 2 up to date, 2 ran")
    assert lock_entries(begun.folder) == ["validate", "base", "prepare", "answers"]
    assert alone(begun, "answers").output.splitlines()[-1] == "stages: 4 up to date"


def test_a_lock_that_a_kill_of_dvc_cut_short_is_mended_in_the_flow(alone: Runner, fresh: Project) -> None:
    """DVC rewrites dvc.lock in place: a kill in between leaves its first part."""
    cut: list[bytes] = []

    def kill(line: str, process: psutil.Process) -> None:
        if "| base | base: checkpoint" in line and not cut:
            (dvc,) = (p for p in process.children() if "flows.dvc" in p.cmdline()[:3])
            dvc.kill()
            cut.append(fresh.lock())
            (fresh.folder / "dvc.lock").write_bytes(cut[0][:-11])

    flow = alone(fresh, "base", on_line=kill)
    assert cut
    assert flow.code == 0, flow.output
    assert "dvc.lock: cut short; the last whole copy of dvc.lock stands there again" in flow.output
    assert "| base | base: its process was killed" in flow.output
    assert fresh.lock().startswith(cut[0])
    assert lock_entries(fresh.folder) == ["validate", "base"]


def test_a_home_of_prefect_that_cannot_be_written_is_told_and_done_without(
    alone: Runner, fresh: Project, monkeypatch: Any
) -> None:
    monkeypatch.setitem(alone.environment, "PREFECT_HOME", "/proc/prefect")
    flow = alone(fresh, "validate")
    assert (flow.code, is_quiet(flow)) == (0, True), flow.output
    assert "PREFECT_HOME: " in flow.output
    assert "this run keeps Prefect's files in" in flow.output


def test_projects_of_one_name_have_flows_of_their_own(tmp_path: Path) -> None:
    one, two = project_name(tmp_path / "a/mine"), project_name(tmp_path / "b/mine")
    assert one.startswith("mine-")
    assert two.startswith("mine-")
    assert one != two == project_name(tmp_path / "c/../b/mine")
