"""What a preservation adds to a loss, in one number."""

from __future__ import annotations

from typing import Any

import torch

from knowtune.preserve.preservation import Preservation
from knowtune.preserve.streams import Part


def term_of(preservation: Preservation | None, model: Any, part: Part) -> torch.Tensor:
    assert preservation is not None
    return torch.stack(list(preservation.terms(model, part, 64))).sum()
