"""The flow: a task for each stage that DVC names, independent stages side by side, and a clear state for each."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
from prefect import flow, get_run_logger, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType
from prefect.context import TagsContext
from prefect.exceptions import PrefectHTTPStatusError, TerminationSignal
from prefect.runtime import flow_run, task_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.urls import url_for

from flows.artifacts import publish
from flows.graph import Node
from flows.processes import Processes
from flows.server import LOST
from flows.states import (
    NOTES,
    PASSING,
    Future,
    Line,
    arrow_from,
    interruption,
    state_of,
    summary,
    whole,
    worth_another_try,
)
from stages.core.pipeline import CHECK

RETRY_AFTER = (2, 20)  # seconds


@task(
    task_run_name="{address}",
    cache_policy=NO_CACHE,  # DVC is the only cache; no tags, for each costs the task a slow question to the server
    persist_result=False,
    retries=len(RETRY_AFTER),
    retry_delay_seconds=list(RETRY_AFTER),
    retry_condition_fn=worth_another_try,
)
def stage(address: str, processes: Processes, force: bool) -> State[None]:
    """Let DVC reproduce one stage; what it prints goes to this task's log, line by line."""
    logger = get_run_logger()
    if task_run.run_count > 1:
        logger.warning("try %s of %s", task_run.run_count, len(RETRY_AFTER) + 1)
    state = state_of(address, processes.reproduce(address, force=force, tell=logger.info))
    if state.name in PASSING:
        logger.warning((state.message or "").partition(";")[0])
    return state


@task(task_run_name="{address}", cache_policy=NO_CACHE, persist_result=False)
def aside(address: str, kind: StateType, name: str, reason: str) -> State[None]:
    """Give a stage that needs no process its state, so that the page shows it too."""
    if name != "Skipped":
        get_run_logger().warning("not run: %s", reason)
    return State(type=kind, name=name, message=reason)


@dataclass
class Walk:
    """One way through the graph: which stages have ended, how, and why others did not start."""

    processes: Processes
    force: bool
    lines: dict[str, Line] = field(default_factory=dict)
    _futures: dict[str, Future] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)
    _blamed: dict[str, set[str]] = field(default_factory=dict)  # the bad stages that a stage could not do without

    def start(self, node: Node) -> Future:
        """Start a stage, all of whose needs have ended."""
        self._started[node.address] = time.monotonic()
        before = [arrow_from(self._futures[need]) for need in node.needs]
        blamed = set[str]().union(*(self._blamed.get(need, ()) for need in node.needs))
        if blamed:
            self._blamed[node.address] = blamed
            reason = f"needs {', '.join(sorted(blamed))}, which failed"
            not_run = StateType.CANCELLED, "NotRun", reason
            return aside.submit(node.address, *not_run, return_state=False, wait_for=before)
        causes = (need for need in node.needs if need != CHECK)  # what the check writes was there before DVC was asked
        if not (self.force or node.changed or any(self.lines[need].state != "Skipped" for need in causes)):
            skipped = StateType.COMPLETED, "Skipped", NOTES["unchanged"]
            return aside.submit(node.address, *skipped, return_state=False, wait_for=before)
        return stage.submit(node.address, self.processes, self.force, return_state=False, wait_for=before)

    def end(self, node: Node, future: Future) -> None:
        """Take down how a stage ended."""
        future.wait()  # it has ended; without this its state would be asked of the server, which lags behind
        state = future.state
        self._futures[node.address] = future
        if not state.is_completed():
            self._blamed.setdefault(node.address, {node.address})
        seconds = time.monotonic() - self._started[node.address]
        name, note = state.name or "", state.message or ""
        self.lines[node.address] = Line(node.address, name, seconds, note, state.is_completed())


def walk(nodes: Sequence[Node], way: Walk, workers: int) -> None:
    """Run every stage once all it needs has ended: in DVC's order, at most so many at a time.

    No more is handed to Prefect than can start at once, so that no worker is held by a stage that waits.
    """
    waiting = {node.address: node for node in nodes}
    finished: SimpleQueue[tuple[Node, Future]] = SimpleQueue()
    running = 0
    while waiting or running:
        ready = [node for node in waiting.values() if all(need in way.lines for need in node.needs)]
        for node in ready[: workers - running]:
            del waiting[node.address]
            way.start(node).add_done_callback(partial(_tell, finished, node))
            running += 1
        way.end(*finished.get())
        running -= 1


def _tell(finished: SimpleQueue[tuple[Node, Future]], node: Node, future: Future) -> None:
    """Report that a stage has ended; called by the thread that ran it."""
    finished.put((node, future))


def run_flow(
    folder: Path, nodes: Sequence[Node], processes: Processes, workers: int, force: bool, page: bool
) -> State[Any]:
    """Reproduce a graph as a Prefect flow.

    Args:
        folder: the project or a workspace.
        nodes: the stages, in DVC's order.
        processes: what runs them.
        workers: how many stages may run at a time.
        force: run stages though nothing has changed.
        page: print the address of the run's page.

    Returns:
        The flow's state; its message says what ran and what failed.
    """
    name = project_name(folder)
    last: list[State[None]] = []

    @flow(name=name, persist_result=False, task_runner=ThreadPoolTaskRunner(max_workers=workers))  # type: ignore[arg-type]
    def reproduce(project: str, workers: int, force: bool) -> State[None]:
        if page and (address := url_for("flow-run", flow_run.id)):
            print(f"page: {address}", flush=True)
        way = Walk(processes, force)
        try:
            with TagsContext(
                current_tags=set()
            ):  # of the run alone; on a task each costs a slow question to the server
                walk(nodes, way, workers)
        except (KeyboardInterrupt, TerminationSignal):
            processes.stop()
            last.append(interruption())
            return last[-1]
        lines = list(way.lines.values())
        last.append(whole(lines))
        get_run_logger().info(summary(lines))
        with suppress(httpx.HTTPError, PrefectHTTPStatusError):  # a server that dies now changes no result
            if not LOST.is_set():
                with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):
                    publish(folder, nodes, lines)
                return last[-1]
        stack.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}))  # the engine still tries to tell it
        return last[-1]

    try:
        with ExitStack() as stack, tags(name):
            return reproduce(folder.name, workers, force, return_state=True)
    except Exception:
        if not last:
            raise
        return last[-1]  # the stages have ended; only the server does not know it


def project_name(folder: Path) -> str:
    """Name a project's flow, so that its runs stand apart from those of another checkout on the same page."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
    return f"{folder.resolve().name}-{digest[:6]}"
