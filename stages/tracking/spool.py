"""What a stage hands in: a note when it begins, and one when it ends, with links to what it read and wrote.

The links are hard links, so that they cost no copy and still lead to the same bytes when the outs have been replaced.
Small files are copied.
A note is there as a whole or not at all. Nothing here imports MLflow or stops a stage.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.artefacts import whole
from knowtune.errors import UserError
from stages.tracking.places import locked, project_root, room
from stages.tracking.reproduction import VARIABLE, join, open_once

if TYPE_CHECKING:
    from stages.core.pipeline import Stage
    from stages.core.schema import Params

NOTE, LOCK, LINKS = "note.json", "dvc.lock", "links"
INTERRUPTED = 130
STALE = 3600.0  # seconds
SMALL = 2**16  # bytes


@contextmanager
def tracked(params: Params) -> Iterator[None]:
    """Hand in a note before and after a stage that DVC runs; do nothing for others, or when tracking is off."""
    note = _begin(params) if "DVC_STAGE" in os.environ and params.tracking.store == "mlflow" else None
    try:
        yield
    except UserError as error:
        _end(note, 1, str(error))
        raise
    except KeyboardInterrupt:
        _end(note, INTERRUPTED, "interrupted")
        raise
    except BaseException:
        _end(note, 1, traceback.format_exc())
        raise
    _end(note, 0, "")


def _begin(params: Params) -> dict[str, Any] | None:
    """Note that a stage begins, and see that somebody reads it."""
    from stages.core.command import PARAMS
    from stages.core.pipeline import quick_yaml

    try:
        join()
        key = os.environ[VARIABLE]
        started = time.time()
        open_once(key, params.tracking.experiment, quick_yaml(PARAMS))
        note = {
            "id": f"{int(started * 1e6)}-{os.getpid()}",
            "reproduction": key,
            "stage": os.environ["DVC_STAGE"].rpartition(":")[2],
            "cwd": str(Path.cwd()),
            "started": started,
        }
        with whole(room() / "spool" / f"{note['id']}.started.json") as part:
            part.write_text(json.dumps(note), encoding="utf-8")
        wake()
        return note
    except Exception as error:  # whatever it is: the stage goes on
        _complain(error)
        return None


def _end(note: dict[str, Any] | None, code: int, error: str) -> None:
    """Note how a stage ended, with what DVC knows of it and links to its files."""
    if note is None:
        return
    from stages.core.pipeline import read_stages

    try:
        ended = time.time()
        stages = read_stages(Path.cwd())
        stage = stages[note["stage"]]
        note |= {
            "ended": ended,
            "seconds": ended - note["started"],
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "code": code,
            "error": error,
            "command": stage.command,
            "description": stage.description,
            "deps": stage.deps,
            "outs": stage.outs,
            "metrics": stage.metrics,
            "params": stage.params,
        }
        with whole(room() / "spool" / f"{note['id']}.ended") as part:
            part.mkdir()
            _link_all(stage, stages.values(), part)
            (part / NOTE).write_text(json.dumps(note), encoding="utf-8")
    except Exception as failure:
        _complain(failure)


def _link_all(stage: Stage, stages: Iterable[Stage], folder: Path) -> None:
    """Link deps and outs by their number. What other stages wrote is left out: dvc.lock, copied too, has its digest."""
    if Path(LOCK).is_file():
        shutil.copyfile(LOCK, folder / LOCK)
    made = {out for other in stages for out in other.outs}
    for kind, names in (("deps", stage.deps), ("outs", stage.outs)):
        for i, name in enumerate(names):
            if Path(name).exists() and not (kind == "deps" and name in made):
                target = folder / LINKS / kind / str(i)
                target.parent.mkdir(parents=True, exist_ok=True)
                link(Path(name), target)


def link(source: Path, target: Path) -> None:
    """Link a file, or every file of a folder; where the disk refuses, nothing is linked and the file itself is read."""
    try:
        if source.is_dir():
            shutil.copytree(source, target, copy_function=_hard_link, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            _hard_link(str(source), str(target))
    except (OSError, shutil.Error):
        shutil.rmtree(target, ignore_errors=True)


def _hard_link(source: str, target: str) -> str:
    """Link the file that a name leads to; a small one is copied, for an editor writes into the file that is linked."""
    if Path(source).stat().st_size <= SMALL:
        shutil.copyfile(source, target)
    else:
        os.link(os.path.realpath(source), target)
    return target


def wake() -> None:
    """Start the tracker, unless one runs."""
    with locked("tracker", wait=False) as free:
        pass
    if not free:
        return
    with (room() / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.tracking.tracker"],
            cwd=project_root(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives the stage, and Ctrl-C is not for it
        )
    process.returncode = 0  # nobody waits for it; without this Python would complain


def pending(key: str | None = None) -> list[Path]:
    """List what has been handed in and not been read, oldest first: of one reproduction, or all."""
    found = [p for p in (room() / "spool").iterdir() if not p.name.startswith(".")]
    return sorted(p for p in found if key is None or read_note(p).get("reproduction") == key)


def sweep() -> None:
    """Remove what stages that were killed while they handed something in have left."""
    for part in (room() / "spool").glob(".*.part-*"):
        if time.time() - part.stat().st_mtime > STALE:
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def read_note(path: Path) -> dict[str, Any]:
    """Read a note; one that has just been taken away is empty."""
    try:
        value = json.loads((path / NOTE if path.suffix == ".ended" else path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return dict(value)


def _complain(error: Exception) -> None:
    """Say in one line that tracking failed."""
    print(f"tracking: {type(error).__name__}: {error}; the stage goes on untracked", file=sys.stderr)
