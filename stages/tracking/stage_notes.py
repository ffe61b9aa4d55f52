"""What a stage hands in: a note when it begins, and one when it ends, with links to what it read and wrote.

Nothing here imports MLflow or stops a stage.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.common.secrets import mask_values
from stages.tracking.addresses import StoreError
from stages.tracking.links import link_all
from stages.tracking.reproduction import OFF, VARIABLE, join, open_once, own_key, why_untracked
from stages.tracking.spool import INTERRUPTED, NOTE, hand_in
from stages.tracking.wake import wake

if TYPE_CHECKING:
    from stages.core.pipeline import Stage
    from stages.core.schema import Params


@contextmanager
def track(params: Params) -> Iterator[None]:
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
        if why := why_untracked():
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
        hand_in(note, "started.json", lambda part: part.write_text(json.dumps(note), encoding="utf-8"))
        wake()
        stage, stages = _look_up(str(note["stage"]), opened)
        return {**note, "pipeline": (stage, stages), "experiment": opened["experiment"]}
    except Exception as error:  # whatever it is: the stage goes on
        _complain(error)
        return None


def _params() -> dict[str, Any]:
    """Read params.yaml as it is now."""
    from stages.core.params import PARAMS
    from stages.core.pipeline import quick_yaml

    return quick_yaml(PARAMS)


def _look_up(name: str, opened: Mapping[str, Any]) -> tuple[Stage, dict[str, Stage]]:
    """Find what dvc.yaml says of a stage, and of all stages.

    A person may rename a run while the pipeline runs. DVC goes on with the old name, which then stands only in the
    params of the beginning.
    """
    from stages.core.pipeline import Stage, quick_yaml, resolve

    for params in (_params, lambda: opened["params"]):
        with suppress(OSError, UserError, LookupError, TypeError):
            stages = resolve(quick_yaml(Path("dvc.yaml")), params())
            return stages[name], stages
    print(
        f"tracking: params.yaml has no stage {name} (any more); was it renamed while the pipeline runs? "
        "Its run is recorded without data; the next reproduction goes by the new name",
        file=sys.stderr,
    )
    return Stage(name, "", "", "", "", (), (), (), {}), {}


def _end(note: dict[str, Any] | None, code: int, error: str) -> None:
    """Note how a stage ended, with what DVC knows of it and links to its files."""
    if note is None:
        return
    try:
        from stages.core.pipeline import CHECK

        ended = time.time()
        stage, stages = note.pop("pipeline")
        made = {out for other in stages.values() for out in other.outs}
        digests = stages[CHECK].outs if CHECK in stages else ()
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
            "code_files": [dep for dep in stage.deps if any(Path(dep).is_relative_to(out) for out in digests)],
            "outs": stage.outs,
            "metrics": stage.metrics,
            "params": stage.params,
        }

        def fill(part: Path) -> None:
            part.mkdir()
            link_all(stage, made, part)
            (part / NOTE).write_text(json.dumps(mask_values(note)), encoding="utf-8")

        hand_in(note, "ended", fill)
    except Exception as failure:
        _complain(failure)


def _params_or_none() -> dict[str, Any]:
    """Read params.yaml, which somebody may be editing."""
    try:
        return _params()
    except Exception:
        return {}


def _complain(error: Exception) -> None:
    """Say in one line that tracking failed."""
    why = error if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
    print(f"tracking: {why}; the stage goes on untracked", file=sys.stderr)
