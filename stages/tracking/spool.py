"""What a stage hands in: a note when it begins, and one when it ends, with links to what it read and wrote.

The links are hard links, so that they cost no copy and still lead to the same bytes when the outs have been replaced.
Small files are copied. A note is there as a whole or not at all, and holds no secret. Nothing here imports MLflow or
stops a stage. What becomes of notes that nobody can record is `stages.tracking.leftovers`' business.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.common.files import whole
from knowtune.common.secrets import masked
from stages.tracking.addresses import StoreError, lock_of, name_of
from stages.tracking.paths import locked, project_root, room
from stages.tracking.reproduction import OFF, VARIABLE, join, open_once, own_key, untracked

if TYPE_CHECKING:
    from stages.core.pipeline import Stage
    from stages.core.schema import Params

NOTE, LOCK, LINKS = "note.json", "dvc.lock", "links"
INTERRUPTED = 130
SMALL = 2**16  # bytes


@contextmanager
def tracked(params: Params) -> Iterator[None]:
    """Hand in a note before and after a stage that DVC runs; do nothing for others, or when tracking is off."""
    wanted = params.tracking.store == "mlflow" and os.environ.get(VARIABLE) != OFF
    note = _begin(params) if "DVC_STAGE" in os.environ and wanted else None
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
    try:
        if why := untracked():
            raise StoreError(why)
        join()
        key = os.environ[VARIABLE]
        started = time.time()
        opened = open_once(key, params.tracking.experiment, _params())
        note = {
            "id": f"{int(started * 1e6)}-{os.getpid()}",
            "reproduction": key,
            "process": own_key(),
            "stage": os.environ["DVC_STAGE"].rpartition(":")[2],
            "cwd": str(Path.cwd()),
            "started": started,
        }
        _hand_in(note, "started.json", lambda part: part.write_text(json.dumps(note), encoding="utf-8"))
        wake()
        stage, made = _look_up(str(note["stage"]), opened)
        return {**note, "found": (stage, made), "experiment": opened["experiment"]}
    except Exception as error:  # whatever it is: the stage goes on
        _complain(error)
        return None


def _params() -> dict[str, Any]:
    """Read params.yaml as it is now."""
    from stages.core.params import PARAMS
    from stages.core.pipeline import quick_yaml

    return quick_yaml(PARAMS)


def _look_up(name: str, opened: Mapping[str, Any]) -> tuple[Stage, set[str]]:
    """Find what dvc.yaml says of a stage, and all that stages make.

    A person may rename a run while the pipeline runs. DVC goes on with the old name, which then stands only in the
    params of the beginning.
    """
    from stages.core.pipeline import Stage, quick_yaml, resolve

    for params in (_params, lambda: opened["params"]):
        with suppress(OSError, UserError, LookupError, TypeError):
            stages = resolve(quick_yaml(Path("dvc.yaml")), params())
            return stages[name], {out for other in stages.values() for out in other.outs}
    print(
        f"tracking: params.yaml has no stage {name} (any more); was it renamed while the pipeline runs? "
        "Its run is recorded without data; the next reproduction goes by the new name",
        file=sys.stderr,
    )
    return Stage(name, "", "", "", "", (), (), (), {}), set()


def _end(note: dict[str, Any] | None, code: int, error: str) -> None:
    """Note how a stage ended, with what DVC knows of it and links to its files."""
    if note is None:
        return
    try:
        ended = time.time()
        stage, made = note.pop("found")
        open_once(note["reproduction"], note.pop("experiment"), _params_or_none())  # closed when its root was killed
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

        def fill(part: Path) -> None:
            part.mkdir()
            _link_all(stage, made, part)
            (part / NOTE).write_text(json.dumps(masked(note)), encoding="utf-8")

        _hand_in(note, "ended", fill)
    except Exception as failure:
        _complain(failure)


def _params_or_none() -> dict[str, Any]:
    """Read params.yaml, which somebody may be editing."""
    try:
        return _params()
    except Exception:
        return {}


def _hand_in(note: Mapping[str, Any], ending: str, fill: Callable[[Path], object]) -> None:
    """Put a note into the spool, as a whole or not at all."""
    with whole(room() / "spool" / f"{note['id']}.{ending}") as part:
        fill(part)


def _link_all(stage: Stage, made: set[str], folder: Path) -> None:
    """Link deps and outs by their number. What other stages wrote is left out: dvc.lock, copied too, has its digest."""
    if Path(LOCK).is_file():
        shutil.copyfile(LOCK, folder / LOCK)
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
    """Start the tracker of this process's store, unless one runs."""
    if process := start_tracker():
        process.returncode = 0  # nobody waits for it; without this Python would complain


def start_tracker() -> subprocess.Popen[bytes] | None:
    """Start the tracker, unless one runs, and return its process."""
    with locked(lock_of("tracker", name_of()), wait=False) as free:
        pass
    if not free:
        return None
    with (room() / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "stages.tracking.tracker"],
            cwd=project_root(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives the stage, and Ctrl-C is not for it
        )


def pending(key: str | None = None) -> list[Path]:
    """List what has been handed in and not been read, oldest first: of one reproduction, or all."""
    found = sorted(p for p in (room() / "spool").iterdir() if not p.name.startswith("."))
    return found if key is None else [path for path in found if _belongs(path, key)]


def _belongs(path: Path, key: str) -> bool:
    """Say whether a note is one of a reproduction's; one that cannot be read is nobody's."""
    with suppress(OSError, ValueError):
        return read_note(path).get("reproduction") == key
    return False


def process_of(path: Path) -> str:
    """Return the key of the process that runs the stage of a note."""
    with suppress(OSError, ValueError):
        return str(read_note(path).get("process", ""))
    return ""


def read_note(path: Path) -> dict[str, Any]:
    """Read a note; one that has just been taken away is empty.

    Raises:
        OSError, ValueError: it cannot be read, or is no note.
    """
    try:
        value = json.loads((path / NOTE if path.suffix == ".ended" else path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if os.path.lexists(path):
            raise
        return {}
    if not isinstance(value, dict) or not isinstance(value.get("reproduction"), str):
        raise ValueError("not a note")
    return value


def _complain(error: Exception) -> None:
    """Say in one line that tracking failed."""
    told = error if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
    print(f"tracking: {told}; the stage goes on untracked", file=sys.stderr)
