"""The workspace of a run on demand: its values over those of a params file, with data and lock of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.overrides import override
from cli.workspace import PRESETS, known_workspace, open_workspace
from knowtune.common.errors import UserError, unknown
from knowtune.common.files import text_digest
from stages.core.params import PARAMS, read_yaml, write_yaml

ASKED = Path(".work/on-demand")  # the params files
UNNAMED = "on-demand-{}"  # the workspace of params that name none: equal params work in one, others beside it


def asked_workspace(params: dict[str, Any], workspace: str) -> Path:
    """Return the folder that a run on demand works in.

    Raises:
        UserError: there is none of this name, or the params are wrong; nothing is changed then.
    """
    if not params and not workspace:
        return open_workspace(PARAMS)
    preset = PRESETS / f"{workspace}.yaml"
    if not params:
        path = preset if preset.is_file() else known_workspace(workspace)
        if path is None:
            here = [path.stem for path in (*PRESETS.glob("*.yaml"), *Path("workspaces").glob("*"))]
            raise unknown("preset or workspace", workspace, here)
        return open_workspace(path)
    name = workspace or UNNAMED.format(text_digest(json.dumps(params, sort_keys=True))[:6])
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"workspace: got {name!r}; allowed: letters, digits, - and _")
    wanted = override(read_yaml(preset if preset.is_file() else PARAMS), params, "params")
    path = ASKED / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_yaml(path, wanted)
    return open_workspace(path, wait=True)
