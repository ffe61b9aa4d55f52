"""The work folder: what a killed stage had finished, and seeds that an earlier version of a run has trained.

DVC deletes a stage's outs before it runs, so what is to survive lies in `.work/`, untracked, keyed by the digest of
everything that decides the result: params, the content of what is read, and the source of every library module that
is loaded.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from knowtune.common.files import file_digest, text_digest, tree_digest

ROOT = Path(".work")
# They decide whether a stage runs and what is told of it, not what it computes (docs/decisions/0006).
PLUMBING = ("command.py", "params.py", "schema.py", "faults.py", "warm.py", "forks.py", "pipeline.py",
            "lock.py", "plain.py", "shape.py")  # fmt: skip


def work_folder(stage: str, params: Any, inputs: Iterable[Path], *members: type) -> Path:
    """Return the folder for this stage's unfinished and finished parts; folders of other versions of it are removed.

    Args:
        stage: e.g. "train-lora".
        params: every number that decides the result (not the list of seeds, each seed having a folder of its own).
        inputs: files and folders that are read.
        members: the classes of the family members that do the work.
    """
    key = text_digest(
        {
            "params": params,
            "inputs": [tree_digest(path) for path in inputs],
            "code": _code(members),
            "versions": _versions(),
        }
    )[:20]
    folder = ROOT / stage / key
    folder.mkdir(parents=True, exist_ok=True)
    for other in (ROOT / stage).iterdir():
        if other != folder:
            shutil.rmtree(other)
    return folder


def _code(members: Iterable[type]) -> dict[str, str]:
    """Digest the code that may decide a result: the library, the stages, and of the families the members in use.

    Coarser than dvc.yaml's deps: an edit to the report makes a killed training start again. That costs time, no bits.
    """
    top = Path(__file__).resolve().parents[2]
    plumbing = {top / "stages/core" / name for name in PLUMBING}
    files = {
        file for folder in ("knowtune", "stages", "stages/core") for file in (top / folder).rglob("*.py")
    } - plumbing
    files |= {Path(inspect.getfile(member)).resolve() for member in members}
    for shared in ("tuners", "tasks"):  # what every method may use, and what every stage that loads rows does
        files |= set((top / "knowtune" / shared).rglob("*.py"))
    return {file.relative_to(top).as_posix(): file_digest(file) for file in sorted(files)}


def _versions() -> dict[str, str]:
    """Name the libraries whose version may change the bits."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "peft", "accelerate", "tokenizers")}
