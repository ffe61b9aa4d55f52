"""Check a params file before DVC starts, PEFT's own options included, and remember a file that was good."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from knowtune.artefacts import text_digest, tree_digest
from stages.core.params import load_params
from stages.core.schema import Params

STAMP = Path(".work/checked.json")


def check_params(path: Path) -> Params:
    """Check a params file.

    The light check runs always. Checking PEFT's own options imports PEFT (seconds), so a file that was good is not
    checked again until it, the checks or PEFT change.

    Raises:
        UserError: all faults of the file.
    """
    params = load_params(path)
    if all(run.method != "peft" for run in params.runs.values()):
        return params
    key = text_digest(
        [tree_digest(path), tree_digest(Path("knowtune/methods")), tree_digest(Path("stages/core")), version("peft")]
    )
    known = json.loads(STAMP.read_text()) if STAMP.is_file() else []
    if key not in known:
        load_params(path, deep=True)
        STAMP.parent.mkdir(exist_ok=True)
        STAMP.write_text(json.dumps([key, *known][:50]))
    return params
