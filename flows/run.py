"""Reproduce a project as a flow: ask DVC for the graph, run it, leave dvc.lock as a sequential run would."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.run import show, surroundings
from flows.graph import Node, read_graph
from flows.lock import lock_entries, sort_lock
from stages.core.params import load_params
from stages.core.pipeline import CHECK
from stages.core.room import room_for
from stages.runner.warm import warm_up
from stages.tracking import drain

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


def default_workers(folder: Path) -> int:
    """Return how many stages of a project or workspace to run at a time; see `fitting_workers`."""
    return fitting_workers(load_params(folder / "params.yaml").model_dump(), folder)


def fitting_workers(params: Mapping[str, Any], folder: Path) -> int:
    """Return how many stages to run at a time: two where each has cores and memory of its own, one on a device.

    Args:
        params: of a project, or of a sweep's points.
        folder: the one that paths begin at.
    """
    if params["compute"]["device"] != "cpu":
        return 1
    cores: int = (os.cpu_count() or 1) // params["threads"]
    return max(1, min(2, cores, room_for(params, folder)))


@dataclass(frozen=True)
class Ended:
    """How a reproduction ended."""

    code: int  # 0; 1 when a stage failed; 130 when interrupted
    message: str
    worked: bool  # whether there was anything to do


def run(folder: Path, targets: Sequence[str], *, workers: int, force: bool, wait: bool = False) -> int:
    """Reproduce a project, or some of its stages and what they need, and show the result.

    Args:
        folder: the project or a workspace.
        targets: stages or families; all when empty.
        workers: how many stages may run at a time.
        force: run stages though nothing has changed.
        wait: until another reproduction in this folder has ended.

    Returns:
        0, 1 when a stage failed, 130 when interrupted.

    Raises:
        UserError: DVC cannot read the pipeline, or the Prefect server that is asked for does not answer.
    """
    ended = reproduce(folder, targets, workers=workers, force=force, wait=wait)
    if ended.code != 0:
        print(f"\n{ended.message}", file=sys.stderr)
        return ended.code
    if not ended.worked:
        print(ended.message)
    if not targets:
        show(folder)  # the leaderboard of a whole run, as `cli run` does
    return 0


def reproduce(
    folder: Path,
    targets: Sequence[str],
    *,
    workers: int,
    force: bool = False,
    wait: bool = False,
    brief: bool = False,
    before: Callable[[], object] | None = None,
    after: Callable[[], object] | None = None,
) -> Ended:
    """Reproduce a project, or some of its stages and what they need.

    Args:
        folder: the project or a workspace.
        targets: stages or families; all when empty.
        workers: how many stages may run at a time.
        force: run stages though nothing has changed.
        wait: until another reproduction in this folder has ended.
        brief: make no page for a run in which nothing has changed.
        before: done first of all, once nobody else is at work here.
        after: done last, if all went well, before anybody else may work here.

    Raises:
        UserError: DVC cannot read the pipeline, or the Prefect server that is asked for does not answer.
    """
    from flows.server import find_server

    with surroundings(folder, wait=wait) as environment:
        if before:
            before()
        nodes = read_graph(folder, targets)
        server = find_server(folder)
        if not force and (brief or server is None) and not any(node.changed for node in nodes):
            ended = Ended(0, f"stages: {len(nodes)} up to date", worked=False)  # nothing is worth starting a server for
        else:
            ended = _work(folder, nodes, environment, server, workers, force)
        if after and ended.code == 0:
            after()
    if ended.worked:
        drain(folder, code=ended.code)
    return ended


def _work(
    folder: Path, nodes: Sequence[Node], environment: dict[str, str], server: str | None, workers: int, force: bool
) -> Ended:
    """Run the flow, and leave dvc.lock in its order however that ends."""
    from flows.server import ServerLostError

    known = lock_entries(folder)
    warm_up(environment)  # beside a server that starts
    try:
        state = _run_flow(folder, nodes, environment, server, workers, force)
    except ServerLostError as error:
        print(f"{error}; a temporary one takes its place", file=sys.stderr, flush=True)
        state = _run_flow(folder, nodes, environment, None, workers, force)  # what has been run is up to date now
    finally:
        sort_lock(folder, known, [node.address for node in nodes])
    code = 0 if state.is_completed() else 130 if state.is_cancelled() else 1
    return Ended(code, state.message or "", worked=True)


def _run_flow(
    folder: Path, nodes: Sequence[Node], environment: dict[str, str], server: str | None, workers: int, force: bool
) -> State[Any]:
    """Import Prefect once it is known where it reports to, and run the flow."""
    from flows.server import prefect_server

    with prefect_server(server, folder):
        from flows.pipeline import run_flow
        from flows.processes import Processes

        return run_flow(folder, nodes, Processes(folder, environment), workers, force, page=server is not None)


def would_run(nodes: Sequence[Node], *, force: bool) -> list[tuple[str, str]]:
    """Say of each stage whether it would run, and why.

    All depend on the check, and nothing follows from it: what it writes is there before DVC is asked.

    Returns:
        Pairs of address and reason; "" for a stage that is up to date.
    """
    roots: dict[str, set[str]] = {}
    reasons: dict[str, str] = {}
    for node in nodes:
        changed = force or node.changed
        causes = (roots[need] for need in node.needs if need != CHECK)
        roots[node.address] = {node.address} if changed else set[str]().union(*causes)
        follows = f"depends on {', '.join(sorted(roots[node.address]))}" if roots[node.address] else ""
        reasons[node.address] = ("forced" if force else "changed") if changed else follows
    return list(reasons.items())
