"""The loop over a member's seeds: what is finished stays in the work folder, so an added seed costs that seed alone."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from knowtune.common.files import replace_folder

Make = Callable[[int, Path, Path], None]


def make_seeds(label: str, seeds: Iterable[int], work: Path, out: Path, make: Make) -> None:
    """Make a folder for each seed that has none yet, and copy all of them into the out folder as `seed-N`.

    Args:
        label: what lines of progress call the stage and its member.
        seeds: which.
        work: the member's work folder, keyed by all that decides the result.
        out: the stage's out, which DVC empties before each run.
        make: takes a seed, the folder that it has to write (there is none yet), and a folder where it goes on after an
            interruption; that one is removed once the seed is finished.
    """
    for seed in seeds:
        own = work / f"seed-{seed}"
        finished, fresh, partial = own / "finished", own / "fresh", own / "partial"
        if finished.is_dir():
            print(f"{label}: seed {seed} is finished already", file=sys.stderr)
        else:
            shutil.rmtree(fresh, ignore_errors=True)
            make(seed, fresh, partial)
            fresh.rename(finished)  # in one step, so that what is called finished is whole
            shutil.rmtree(partial, ignore_errors=True)
        replace_folder(finished, out / f"seed-{seed}")
