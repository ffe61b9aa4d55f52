"""From params to the library's objects: where models run, and the base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from knowtune.base import Base, Compute

if TYPE_CHECKING:
    from stages.core.schema import Params


def compute_of(params: Params) -> Compute:
    """Give where models run."""
    return Compute(**params.compute.model_dump(), threads=params.threads)


def open_base(params: Params, artefact: Path) -> Base:
    """Open the base that the base stage wrote or described."""
    return Base.open(artefact, Path(params.base.path), compute_of(params))
