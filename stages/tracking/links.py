"""Links to what a stage read and wrote, beside its note.

They are hard links, so that they cost no copy and still lead to the same bytes when the outs have been replaced. Small
files are copied.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from stages.tracking.spool import LINKS, LOCK

if TYPE_CHECKING:
    from stages.core.pipeline import Stage

SMALL = 2**16  # bytes


def link_all(stage: Stage, made: set[str], folder: Path) -> None:
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
