"""`python -m flows.sweep FILE`: run the pipeline at many values, in workspaces of their own, side by side.

`flows.sweep:sweep` is the flow, for a deployment. Each point is `python -m cli run` on a params file in the sweep's
folder, `workspaces/sweeps/NAME`, and a task on the page. What points share is run once and first; DVC's cache, which
all workspaces share, gives it to the others. A sweep that was killed goes on by the same command: DVC knows what each
point has finished.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

from flows.server import QUIET, find_server, prefect_server

for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

from prefect import flow, get_run_logger, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.schemas.objects import State, StateType  # noqa: E402
from prefect.exceptions import TerminationSignal  # noqa: E402
from prefect.futures import PrefectFuture  # noqa: E402
from prefect.states import Completed, Failed  # noqa: E402

from cli.claim import claim_folder  # noqa: E402
from cli.sweeping.dry import dry  # noqa: E402
from cli.sweeping.file import Point, Sweep  # noqa: E402
from cli.sweeping.read import read_sweep, refuse_name  # noqa: E402
from cli.sweeping.shared import EVALUATIONS, closure, default_targets, pieces, stages_of  # noqa: E402
from cli.sweeping.study import source_of  # noqa: E402
from cli.sweeping.table import PICTURE, TABLE, Result, read_metrics, show, write_results  # noqa: E402
from flows.lock import lock_entries  # noqa: E402
from flows.points import Runner  # noqa: E402
from flows.run import fitting_workers  # noqa: E402
from knowtune.common.errors import UserError  # noqa: E402
from knowtune.common.files import whole  # noqa: E402
from knowtune.common.secrets import mask_output  # noqa: E402
from stages.core.params import write_yaml  # noqa: E402
from stages.core.pipeline import PROJECT  # noqa: E402
from stages.runner.warm import warm_process  # noqa: E402
from stages.tracking import drain, open_sweep, why_untracked  # noqa: E402

EXAMPLE = "python -m flows.sweep rank.yaml --dry\n  python -m flows.sweep rank.yaml --workers 2"
FOLDER = Path("workspaces/sweeps")
INTERRUPTED = "interrupted; what is finished is kept, the same command goes on from there"


@task(task_run_name="{label}", cache_policy=NO_CACHE, persist_result=False)
def reproduce_point(label: str, runner: Runner, point: Point, targets: Sequence[str]) -> State[None]:
    """Reproduce a point, or the stages that it shares with others."""
    code, tail = runner.run(point, targets, get_run_logger().info)
    if code == 0:
        return Completed(message="finished")
    if code == 130:
        return State(type=StateType.CANCELLED, name="Interrupted", message="interrupted")
    return Failed(message=f"{label}: exit code {code}; its last lines:\n{tail}")


@flow(name="sweep", persist_result=False)
def sweep(grid: str, workers: int | None = None) -> State[Any]:
    """Run all points of a sweep's file, and tell in one table what each came to.

    Args:
        grid: path of the file, from the project's folder.
        workers: points at a time; as many as a flow has stages at a time by default.
    """
    try:
        return _sweep(Path(grid), workers)
    except UserError as error:
        return Failed(message=str(error))


def _sweep(file: Path, workers: int | None) -> State[Any]:
    """Do what `sweep` says."""
    refuse_name(file)
    plan = read_sweep(file)
    targets = default_targets(plan)
    folder = FOLDER / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    workers = workers or fitting_workers(plan.shared, PROJECT)
    with claim_folder(folder, wait=True), warm_process(PROJECT) as warm:
        runner = Runner(folder, plan, _identity(folder), {**os.environ, **warm})
        write_yaml(folder / "sweep.yaml", plan.options.model_dump(mode="json", exclude_none=True))
        tracked = plan.shared["tracking"]["store"] != "none" and not why_untracked()
        if tracked:
            open_sweep(runner.identity, plan.name, plan.shared["tracking"]["experiment"], folder)
        state, code = _walk(plan, targets, runner, workers)
    if tracked:
        drain(folder, code=code)
    return state


def _walk(plan: Sweep, targets: Sequence[str], runner: Runner, workers: int) -> tuple[State[Any], int]:
    """Run what is shared, then the points, at most so many at a time; write the table after each.

    Returns:
        The state, and the exit code.
    """
    source, results, tell = source_of(plan, runner.folder), list[Result](), get_run_logger().info
    finished: SimpleQueue[tuple[Point, PrefectFuture[Any]]] = SimpleQueue()
    batch = [point for _ in range(len(plan.grid()) or workers) if (point := source.next())]
    running = 0
    try:
        for piece in pieces(batch, targets) if len(batch) > 1 else []:
            if set(piece.stages) <= set(lock_entries(runner.workspace(piece.point))):
                continue  # they have run; whether they are up to date is looked at with the point itself
            label = f"shared: {len(piece.stages)} stages, for {piece.point.label}"
            reproduce_point(label, runner, piece.point, piece.stages, return_state=True)
        while True:
            while running < workers and (point := batch.pop(0) if batch else source.next()):
                future = reproduce_point.submit(point.label, runner, point, targets, return_state=False)
                future.add_done_callback(partial(_put, finished, point))
                running += 1
            if not running:
                break
            point, future = finished.get()
            running -= 1
            future.wait()
            result = _result(plan, runner, point, targets, future.state)
            results.append(result)
            source.tell(point, result.metrics.get(plan.options.objective or "") if result.state == "finished" else None)
            write_results(runner.folder, plan, results, _models(point, targets))
            tell("%s: %s, %d points so far%s", point.label, result.state, len(results), _objective(plan, result))
    except (KeyboardInterrupt, TerminationSignal):
        runner.stop()
        return State(type=StateType.CANCELLED, name="Interrupted", message=INTERRUPTED), 130
    if results:
        show(plan, results, _models(results[0].point, targets))
    failed = [result.point.label for result in results if result.state != "finished"]
    where = f"{runner.folder / TABLE}, {runner.folder / PICTURE}"
    if failed:
        message = (
            f"{len(failed)} of {len(results)} points failed: {'; '.join(failed)}; logs: {runner.folder}/*.log; {where}"
        )
        return Failed(message=message), 1
    return Completed(message=f"{len(results)} points finished; {where}"), 0


def _put(finished: SimpleQueue[tuple[Point, PrefectFuture[Any]]], point: Point, future: PrefectFuture[Any]) -> None:
    """Report that a point has ended; called by the thread that ran it."""
    finished.put((point, future))


def _result(plan: Sweep, runner: Runner, point: Point, targets: Sequence[str], state: State[Any]) -> Result:
    """Read what a point came to."""
    workspace = runner.workspace(point)
    evaluations = [n for n in closure(stages_of(point), targets) if n.partition("@")[0] in EVALUATIONS]
    good = state.is_completed()
    metrics = read_metrics(workspace, evaluations) if good else {}
    if good and plan.options.objective and plan.options.objective not in metrics:
        get_run_logger().warning("%s: no %s was measured", point.label, plan.options.objective)
    costs, seconds = workspace / ".work/costs.jsonl", 0.0
    if costs.is_file():
        seconds = sum({e["stage"]: e["seconds"] for e in map(json.loads, costs.read_text().splitlines())}.values())
    return Result(point, "finished" if good else "failed", metrics, time.time(), seconds)


def _models(point: Point, targets: Sequence[str]) -> list[str]:
    """Return the runs and mixtures that are evaluated."""
    names = closure(stages_of(point), targets)
    return [name.partition("@")[2] for name in names if name.partition("@")[0] in EVALUATIONS]


def _objective(plan: Sweep, result: Result) -> str:
    """Say what a point came to, where there is an objective."""
    value = result.metrics.get(plan.options.objective or "")
    return "" if value is None else f"; {plan.options.objective} {value:.4g}"


def _identity(folder: Path) -> str:
    """Return what the sweep is called in tracking: made once, and kept in its folder."""
    path = folder / "identity"
    if not path.is_file():
        with whole(path) as part:
            part.write_text(f"sweep-{uuid.uuid4().hex[:12]}", encoding="utf-8")
    return path.read_text(encoding="utf-8")


def main() -> int:
    """Parse the command line and run; errors of the user's are printed without a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.sweep",
        description=__doc__,
        epilog=f"example:\n  {EXAMPLE}\n\nThe file, and what it may say: docs/guide/sweeps.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="what to try: a grid, or a study")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="points at a time; default: 2 where CPU and memory have room"
    )
    parser.add_argument("--dry", action="store_true", help="say what would run and how long, and run nothing")
    args = parser.parse_args()
    mask_output()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if args.dry:
            dry(args.file, FOLDER, args.workers or fitting_workers(read_sweep(args.file).shared, PROJECT))
            return 0
        default_targets(read_sweep(args.file))  # its faults, before a server is looked for
        with prefect_server(find_server(Path.cwd()), Path.cwd()):
            state = sweep(str(args.file), args.workers, return_state=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    print(state.message, file=sys.stdout if state.is_completed() else sys.stderr)
    return 0 if state.is_completed() else 130 if state.is_cancelled() else 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Take SIGTERM as Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
