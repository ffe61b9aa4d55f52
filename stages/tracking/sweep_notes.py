"""What a sweep hands in: that it and its points have begun, though no stage of theirs may have to run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from stages.tracking.reproduction import OFF, VARIABLE, open_once, own_key
from stages.tracking.sweeps import sweep_of_environment


def open_point(experiment: str, params: dict[str, Any], folder: Path) -> None:
    """Open the reproduction of a point by its root; do nothing for any other reproduction."""
    if sweep_of_environment() and os.environ.get(VARIABLE) != OFF:
        open_once(own_key(), experiment, params, cwd=str(folder.resolve()))


def open_sweep(identity: str, name: str, experiment: str, folder: Path) -> None:
    """Open a sweep by its own process.

    Args:
        identity: of the sweep, the same when it goes on after a kill.
        name: of its file.
        experiment: of its points.
        folder: where its table and picture will lie.
    """
    open_once(own_key(), experiment, {}, cwd=str(folder.resolve()), sweep={"id": identity, "name": name})
