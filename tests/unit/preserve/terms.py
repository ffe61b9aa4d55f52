"""What a preservation adds to a loss, in one number."""

from __future__ import annotations

from typing import Any

import torch

from knowtune.preserve.part import Part
from knowtune.preserve.preservation import Preservation


def term_of(preservation: Preservation | None, model: Any, part: Part) -> torch.Tensor:
    assert preservation is not None
    return torch.stack(list(preservation.terms(model, part, 64))).sum()
