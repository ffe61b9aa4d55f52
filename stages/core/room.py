"""For how many stages memory has room at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

CONTAINER = Path("/sys/fs/cgroup/memory.max")  # where Linux says what a container may use
MANY = 2**30  # stages: a base that the pipeline builds is small
TIMES = 12  # the weights on disk, at most, is a stage's memory: in float32 they, gradients, two moments, a frozen base


def room_for(params: Mapping[str, Any], folder: Path) -> int:
    """Count the stages that memory has room for, by the base's weights; one where these are not here yet.

    Args:
        params: of a project, or of a sweep's points.
        folder: the one that paths begin at.
    """
    base = params["base"]
    if base["model"] == "embedded":
        return MANY
    files = [file for file in (folder / base["path"]).rglob("*") if file.suffix in (".safetensors", ".bin")]
    weights: int = sum(file.stat().st_size for file in files if file.is_file())
    return _memory() // (TIMES * weights) if weights else 1


def _memory() -> int:
    """Return the bytes of this machine, or of the container that this runs in."""
    limit = "max"
    with suppress(OSError):
        limit = CONTAINER.read_text(encoding="utf-8").strip()
    total = int(psutil.virtual_memory().total)
    return min(total, int(limit)) if limit.isdecimal() else total
