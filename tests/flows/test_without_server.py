"""Flows where no Prefect server answers, or where it dies: the stages' results count, the server's words do not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.graph import lock_entries
from flows.pipeline import project_name
from tests.flows.conftest import Flow, Runner, copy_small
from tests.pipeline.conftest import Project

NOISE = ("Traceback", "Error logging to API", "failed to process item", "ConnectError", "Retrying")


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Starts flows that know no server; Prefect's home is a new one."""
    monkeypatch.setattr("tests.flows.conftest.LIMIT", 240.0)
    runner = Runner("", tmp_path / "home")
    del runner.environment["PREFECT_API_URL"]
    return runner


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Project]:
    project = copy_small(tmp_path / "fresh")
    yield project
    left = [p.info for p in psutil.process_iter(["pid", "cmdline", "cwd"]) if p.info["cwd"] == str(project.folder)]
    assert not left  # no temporary server, no stage


def is_quiet(flow: Flow) -> bool:
    return not any(word in flow.output for word in NOISE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_the_whole_group_ends_soon_and_keeps_what_is_finished(
    number: int, alone: Runner, fresh: Project
) -> None:
    sent: list[int] = []

    def interrupt(line: str, process: psutil.Process) -> None:
        if "| prepare | > python" in line and not sent:
            sent.append(process.pid)
            os.killpg(process.pid, number)

    flow = alone(fresh, "prepare", on_line=interrupt)
    assert sent
    assert (flow.code, is_quiet(flow)) == (130, True), flow.output
    last = flow.output.splitlines()[-1]
    assert last == "interrupted; what is finished is kept, the same command goes on from there"
    assert lock_entries(fresh.folder) == ["validate", "base"]
    again = alone(fresh, "prepare")
    assert again.code == 0, again.output
    assert again.output.splitlines()[-1].endswith("| stages: 2 up to date, 1 ran")


def test_a_server_that_dies_ends_no_stage_and_fills_no_page(alone: Runner, fresh: Project) -> None:
    killed: list[int] = []

    def kill(line: str, process: psutil.Process) -> None:
        if "| base | > python" in line and not killed:
            server = next(p for p in process.children() if "flows.temporary" in p.cmdline())
            server.kill()
            killed.append(server.pid)

    flow = alone(fresh, "prepare", on_line=kill)
    assert killed
    assert (flow.code, is_quiet(flow)) == (0, True), flow.output
    died = [line for line in flow.output.splitlines() if line.endswith("has died; the stages go on without a page")]
    assert len(died) == 1  # in the middle, or at the end where the stages end before it is noticed
    assert [line for line in flow.output.splitlines() if line not in died][-1].endswith("| stages: 3 ran")
    assert lock_entries(fresh.folder) == ["validate", "base", "prepare"]
    assert alone(fresh, "prepare").output.splitlines()[-1] == "stages: 3 up to date"


def test_a_lock_that_a_kill_of_dvc_cut_short_is_mended_in_the_flow(alone: Runner, fresh: Project) -> None:
    """DVC rewrites dvc.lock in place: a kill in between leaves its first part."""
    cut: list[bytes] = []

    def kill(line: str, process: psutil.Process) -> None:
        if "| base | base: checkpoint" in line and not cut:
            (dvc,) = (p for p in process.children() if "dvc" in p.cmdline()[:3])
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
