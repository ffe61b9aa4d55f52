"""From params to the library's objects: where models run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowtune.base import Compute

if TYPE_CHECKING:
    from stages.core.schema import Params


def compute_of(params: Params) -> Compute:
    """Give where models run."""
    return Compute(**params.compute.model_dump(), threads=params.threads)
