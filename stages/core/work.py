"""The work folder: what a killed stage had finished, and seeds that an earlier version of a run has trained.

DVC deletes a stage's outs before it runs, so what is to survive lies in `.work/`, untracked, keyed by the digest of
everything that decides the result: params, the content of what is read, and the code that the stage runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from knowtune.common.files import text_digest, tree_digest

ROOT = Path(".work")


def work_folder(stage: str, params: Any, inputs: Iterable[Path], code: Mapping[str, str]) -> Path:
    """Return the folder for this stage's unfinished and finished parts; folders of other versions of it are removed.

    Args:
        stage: e.g. "train-lora".
        params: every number that decides the result (not the list of seeds, each seed having a folder of its own).
        inputs: files and folders that are read.
        code: the digests of what does the work, see `stages.core.code.code_of`.
    """
    key = text_digest(
        {
            "params": params,
            "inputs": [tree_digest(path) for path in inputs],
            "code": dict(code),
            "versions": _versions(),
        }
    )[:20]
    folder = ROOT / stage / key
    folder.mkdir(parents=True, exist_ok=True)
    for other in (ROOT / stage).iterdir():
        if other != folder:
            shutil.rmtree(other)
    return folder


def _versions() -> dict[str, str]:
    """Name the libraries whose version may change the bits."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "peft", "accelerate", "tokenizers")}
