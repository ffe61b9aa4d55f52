"""The work folder: what a killed stage had finished, and seeds that an earlier version of a run has trained.

DVC deletes a stage's outs before it runs, so what is to survive lies in `.work/`, untracked, keyed by the digest of
everything that decides the result: params, the content of what is read, and the source of every library module that
is loaded.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from knowtune.artefacts import file_digest, text_digest, tree_digest

ROOT = Path(".work")


def work_folder(stage: str, params: Any, inputs: Iterable[Path], member: type | None = None) -> Path:
    """Return the folder for this stage's unfinished and finished parts; folders of other versions of it are removed.

    Args:
        stage: e.g. "train-lora".
        params: every number that decides the result (not the list of seeds, each seed having a folder of its own).
        inputs: files and folders that are read.
        member: the class of the family member that does the work.
    """
    key = text_digest(
        {
            "params": params,
            "inputs": [tree_digest(path) for path in inputs],
            "code": {name: file_digest(Path(file)) for name, file in _code(member)},
            "versions": _versions(),
        }
    )[:20]
    folder = ROOT / stage / key
    folder.mkdir(parents=True, exist_ok=True)
    for other in (ROOT / stage).iterdir():
        if other != folder:
            shutil.rmtree(other)
    return folder


def _code(member: type | None) -> list[tuple[str, str]]:
    """List the library's loaded modules and their files; of the families, only the member in use."""
    files = [(name, getattr(module, "__file__", None)) for name, module in sorted(sys.modules.items())]
    families = tuple(f"knowtune.{family}" for family in ("filters", "selectors", "methods", "mixtures", "metrics"))
    return [
        (name, file)
        for name, file in files
        if file
        and name.startswith("knowtune")
        and (not name.startswith(families) or (member is not None and name == member.__module__))
    ]


def _versions() -> dict[str, str]:
    """Name the libraries whose version may change the bits."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "peft", "accelerate", "tokenizers")}
