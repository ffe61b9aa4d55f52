"""The parts of the flow that need neither DVC nor a server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from flows.artifacts import metric_rows
from flows.graph import Node, read_graph
from flows.lock import lock_entries
from flows.processes import Outcome, verdict
from flows.run import would_run
from flows.states import state_of, worth_another_try
from flows.worker import patient


@pytest.mark.parametrize(
    ("code", "last", "kind"),
    [
        (0, "Use `dvc push` to send your updates to remote storage.", "ran"),
        (255, "ERROR: failed to reproduce 'x': failed to run: python -m stages.x, exited with 1", "failed"),
        (255, "ERROR: failed to reproduce 'x': failed to run: python -m stages.x, exited with 137", "killed"),
        (255, "ERROR: failed to reproduce 'x': failed to run: python -m stages.x, exited with -9", "killed"),
        (-9, "half a line", "killed"),
        (255, "ERROR: failed to reproduce 'x': failed to run: python -m stages.x, exited with 75", "unreachable"),
        (255, "ERROR: Unable to acquire lock. Most likely another DVC process is running", "busy"),
        (255, "ERROR: failed to reproduce 'x': '/p/data' is busy, it is being blocked by:", "busy"),
        (255, "'./dvc.lock' validation failed.", "cut"),
        (255, "'workspaces/a/dvc.lock' is invalid.", "cut"),
        (255, "ERROR: failed to reproduce 'x': missing data 'source': data/raw", "failed"),
    ],
)
def test_how_a_stage_ended_is_read_from_what_dvc_says(code: int, last: str, kind: str) -> None:
    assert verdict(code, "x", ["Running stage 'x':"], ["Running stage 'x':", last]) == kind


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Stage 'x' didn't change, skipping", "unchanged"),
        ("Stage 'x' is cached - skipping run, checking out outputs", "cached"),
        ("Stage 'y' didn't change, skipping", "ran"),
    ],
)
def test_what_dvc_did_not_run_is_told_apart(line: str, kind: str) -> None:
    assert verdict(0, "x", [line], [line]) == kind


@pytest.mark.parametrize(
    ("kind", "again"),
    [
        ("failed", False),
        ("killed", True),
        ("busy", True),
        ("unreachable", True),
        ("cut", True),
        ("stopped", False),
        ("ran", False),
    ],
)
def test_only_what_another_try_may_mend_is_tried_again(kind: str, again: bool) -> None:
    assert worth_another_try(None, None, state_of("x", Outcome(kind, "last line"))) is again


def test_a_failure_carries_the_last_lines() -> None:
    state = state_of("train@x", Outcome("failed", "one\ntwo"))
    assert state.message == "train@x: failed; its last lines:\none\ntwo"


def test_a_dry_run_follows_what_changed() -> None:
    nodes = [Node("a", (), False), Node("b", ("a",), True), Node("c", ("b",), False), Node("d", ("a",), False)]
    assert would_run(nodes, force=False) == [("a", ""), ("b", "changed"), ("c", "depends on b"), ("d", "")]
    assert {reason for _, reason in would_run(nodes, force=True)} == {"forced"}


def test_entries_of_a_lock_are_found_in_their_order(tmp_path: Path) -> None:
    assert lock_entries(tmp_path) == []
    text = "schema: '2.0'\nstages:\n  b@x:\n    cmd: python\n    outs:\n    - path: a\n  a:\n    cmd: 'c:'\n"
    (tmp_path / "dvc.lock").write_text(text)
    assert lock_entries(tmp_path) == ["b@x", "a"]


def test_metrics_become_a_row_per_model() -> None:
    assert metric_rows({"m": {"a": 1, "b": {"c": 2}}, "n": {"a": 3}}) == [
        {"name": "m", "a": 1, "b.c": 2},
        {"name": "n", "a": 3},
    ]
    assert metric_rows({"loss": 0.5, "at": {"k": 1}}) == [{"loss": 0.5, "at.k": 1}]


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC's own, of pygtrie
def test_stages_of_a_folder_elsewhere_keep_their_names(tmp_path: Path) -> None:
    """As in a workspace: the flow stands in the project, the stages below it."""
    folder = tmp_path / "workspaces/mine"
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=folder, check=True)
    (folder / "params.yaml").write_text("runs: {a: {n: 1}}\n")
    (folder / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: echo > out\n    outs: [out]\n"
        "  two:\n    foreach: ${runs}\n    do:\n"
        "      cmd: cp out ${key}\n      deps: [out]\n      outs:\n        - ${key}\n"
    )
    found = read_graph(folder, [])
    assert [(node.address, node.needs) for node in found] == [("one", ()), ("two@a", ("one",))]
    assert [node.address for node in read_graph(folder, ["two@a"])] == ["one", "two@a"]


def test_a_worker_outlives_an_outage_and_tells_it_once() -> None:
    request = httpx.Request("GET", "http://host")
    down = httpx.ConnectError("refused")
    broken, refused = (
        httpx.HTTPStatusError("no", request=request, response=httpx.Response(code, request=request))
        for code in (500, 403)
    )
    answers, messages = [["run"], down, broken, broken, ["run"], down, refused], list[str]()

    async def ask() -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    question = patient(ask, [], messages.append)
    assert [asyncio.run(question()) for _ in range(6)] == [["run"], [], [], [], ["run"], []]
    assert messages == [
        "the Prefect server does not answer, or errors alone; what runs goes on",
        "the Prefect server answers again",
        "the Prefect server does not answer, or errors alone; what runs goes on",
    ]
    with pytest.raises(httpx.HTTPStatusError):
        asyncio.run(question())
    answers.append(down)
    with pytest.raises(httpx.ConnectError):  # a server that has never answered: its address is wrong
        asyncio.run(patient(ask, [], messages.append)())
