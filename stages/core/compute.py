"""From params to the library's objects: where models run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from knowtune.common.errors import UserError
from knowtune.models.compute import Compute

if TYPE_CHECKING:
    from stages.core.schema import Params


def compute_of(params: Params) -> Compute:
    """Give where models run."""
    return Compute(**params.compute.model_dump(), threads=params.threads)


def require_one_process(stage: str) -> None:
    """Refuse to run under a launcher, whose processes would write into one folder.

    Raises:
        UserError: there are several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"{stage}: got several processes; allowed: one. Stages under a launcher are not there yet")
