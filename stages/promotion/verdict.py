"""What the gate has said, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from knowtune.common.errors import UserError
from knowtune.common.files import read_card
from stages.core.pipeline import project_out

GATE, SHIP = "gate", "ship"
SHAPE = {"verdict": str, "summary": str, "checks": list, "candidates": list}


def read_verdict(folder: Path) -> dict[str, Any]:
    """Read the gate's verdict.

    Args:
        folder: the project or a workspace.

    Raises:
        UserError: there is none.
    """
    path = folder / project_out(GATE)
    if not path.is_file():
        raise UserError(f"{path}: no verdict yet; `make run` makes it")
    return dict(read_card(path, SHAPE, GATE))


def answer(folder: Path) -> str | None:
    """Give the verdict's sentence; None where no gate has judged a model."""
    if not (folder / project_out(GATE)).is_file():
        return None
    verdict = read_verdict(folder)
    return str(verdict["summary"]) if verdict["candidates"] else None
