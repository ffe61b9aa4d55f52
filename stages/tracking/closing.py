"""The end of a reproduction's parent run: what every stage did, and which run made what was not run."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.pipeline import Stage, quick_yaml, resolve
from stages.tracking.book import Book, metrics_of
from stages.tracking.description import Row, describe
from stages.tracking.digests import joint_md5
from stages.tracking.lineage import Locked, locked_stages, md5s
from stages.tracking.numbers import whole_json
from stages.tracking.paths import project_root
from stages.tracking.stage_run import status_of
from stages.tracking.sweeps import entry_of

if TYPE_CHECKING:
    from mlflow.entities import Run

RESULTS = "results.json"  # what each point of a sweep came to
SWEPT = ("table.csv", "picture.svg", RESULTS, "sweep.yaml")
UNKNOWN = "not tracked here"
HAPPENED = {"FINISHED": "ran", "FAILED": "failed", "KILLED": "interrupted"}


def close_book(book: Book, ended: float | None, code: int) -> dict[str, Any]:
    """Close a reproduction.

    Args:
        book: to close.
        ended: when, in seconds; None where nobody knows: then when its last stage did.
        code: the exit code of whoever ran it, 0 where nobody knows.

    Returns:
        What to tell: experiment, name of the run, store.
    """
    sweep = book.opened.get("sweep")
    if sweep and "point" not in sweep:
        return _close_sweep(book, ended or time.time(), code)
    cwd = Path(book.opened["cwd"])
    if not (cwd / "dvc.yaml").is_file():  # an experiment's folder, which DVC has taken away
        cwd = project_root()
    stages, locked = _stages(cwd, book.opened["params"]), locked_stages(cwd / "dvc.lock")
    runs = _runs(book)
    rows = [_row(book, name, runs.get(name), locked) for name in dict.fromkeys((*stages, *runs))]
    _check_digests(book, runs, locked)
    if rows:
        _log_table(book, rows, "stages.json")
    status = _status(code, [run.info.status for run in runs.values()])
    ends = [run.info.end_time for run in runs.values() if run.info.end_time]
    end = int(ended * 1000) if ended else max(ends, default=None)
    when = end / 1000 if end else book.opened["started"]
    describe(book, cwd, stages, rows, locked, when, good=status == "FINISHED")
    book.client.set_terminated(book.parent, status, end)
    return _word(book)


def _close_sweep(book: Book, ended: float, code: int) -> dict[str, Any]:
    """Close the run of a sweep: files and counts onto it, what points were measured at onto their runs."""
    folder, sweep = Path(book.opened["cwd"]), book.opened["sweep"]
    for name in SWEPT:
        if (folder / name).is_file():
            book.client.log_artifact(book.parent, str(folder / name))
    found = whole_json(folder / RESULTS) if (folder / RESULTS).is_file() else None
    results = found if isinstance(found, list) else []
    for one in results:
        clause = f"tags.entry = '{entry_of({**sweep, 'point': one['run']})}'"
        for run in book.client.search_runs([book.experiment], clause, max_results=1):
            book.client.log_batch(run.info.run_id, metrics_of(one["metrics"], one["ended"]))
    states = [one["state"] for one in results]
    book.client.log_batch(book.parent, metrics_of({f"points.{s}": float(states.count(s)) for s in set(states)}, ended))
    book.client.set_terminated(book.parent, status_of(code), int(ended * 1000))
    return _word(book)


def _word(book: Book) -> dict[str, Any]:
    """Return what to tell whoever waits."""
    name = book.client.get_run(book.parent).info.run_name
    return {"experiment": book.opened["experiment"], "name": name, "uri": book.opened["uri"]}


def _log_table(book: Book, rows: list[Row], name: str) -> None:
    """Log a table that MLflow's page shows as one; its own `log_table` adds to what a try before has left."""
    columns = list(rows[0])
    book.client.log_dict(book.parent, {"columns": columns, "data": [[row[c] for c in columns] for row in rows]}, name)
    book.client.set_tag(book.parent, "mlflow.loggedArtifacts", json.dumps([{"path": name, "type": "table"}]))


def write_off(book: Book | None, why: str) -> None:
    """Close a reproduction of which nothing more can be said, if the store takes that."""
    if book is not None:
        with contextlib.suppress(Exception):
            book.client.set_tag(book.parent, "error", why)
            book.client.set_terminated(book.parent, "FAILED")


def _stages(cwd: Path, params: Mapping[str, Any]) -> dict[str, Stage]:
    """Resolve the pipeline as it was when the reproduction began; a person may be editing params.yaml by now."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        return resolve(quick_yaml(cwd / "dvc.yaml"), params)
    return {}


def _runs(book: Book) -> dict[str, Run]:
    """Return this reproduction's runs by stage; one that never ended was killed."""
    clause = f"tags.reproduction = '{book.parent}' AND tags.kind = 'stage'"
    runs = {}
    for run in book.client.search_runs([book.experiment], clause, max_results=10_000, order_by=["start_time ASC"]):
        if run.info.status == "RUNNING":
            book.client.set_tag(run.info.run_id, "error", "the stage's process was killed")
            book.client.set_terminated(run.info.run_id, "KILLED")
            run = book.client.get_run(run.info.run_id)
        runs[run.data.tags["dvc.stage"]] = run
    return runs


def _row(book: Book, stage: str, run: Run | None, locked: Locked) -> Row:
    """Say what a stage did; where it did not run, which run wrote what lies there."""
    if run is not None:
        seconds = round(run.data.metrics.get("seconds", 0.0), 1)
        happened = HAPPENED[run.info.status]
        return {"stage": stage, "happened": happened, "made by run": run.info.run_id, "seconds": seconds}
    producer = UNKNOWN
    if stage in locked:
        outs = joint_md5(md5s(locked[stage]["outs"]))
        clause = f"tags.`dvc.outs` = '{outs}' AND tags.`dvc.stage` = '{stage}' AND attributes.status = 'FINISHED'"
        runs = book.client.search_runs([book.experiment], clause, max_results=1, order_by=["start_time DESC"])
        producer = runs[0].info.run_id if runs else UNKNOWN
    return {"stage": stage, "happened": "skipped", "made by run": producer, "seconds": 0.0}


def _check_digests(book: Book, runs: Mapping[str, Run], locked: Locked) -> None:
    """Compare what was recorded with what DVC has written down since."""
    for name, run in runs.items():
        if run.info.status == "FINISHED" and name in locked:
            differ = [
                kind for kind in ("deps", "outs")
                if run.data.tags.get(f"dvc.{kind}") != joint_md5(md5s(locked[name][kind]))
            ]  # fmt: skip
            book.client.set_tag(run.info.run_id, "dvc.lock", f"differs: {', '.join(differ)}" if differ else "equal")


def _status(code: int, statuses: list[str]) -> str:
    """Return the parent's status from its stages' and from whoever ran it."""
    worst = next((status for status in ("FAILED", "KILLED") if status in statuses), "FINISHED")
    return worst if code == 0 or worst != "FINISHED" else status_of(code)
