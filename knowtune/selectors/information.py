"""Fisher information that parameters can be ranked by: in the order of the scope, finite, and not zero everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from knowtune.common.errors import UserError

if TYPE_CHECKING:
    import torch


def usable(fisher: Mapping[str, torch.Tensor], names: Iterable[str], of: str = "") -> dict[str, torch.Tensor]:
    """Return Fisher information in the order of names; ties of ranks go by it.

    Args:
        fisher: one number per entry of each parameter, of its shape.
        names: of the parameters in scope.
        of: what it was taken on, for messages, e.g. " about 'self'".

    Raises:
        UserError: it is not finite, or zero everywhere.
    """
    ordered = {name: fisher[name] for name in names}
    for name, values in ordered.items():
        if not bool(values.isfinite().all()):
            raise UserError(
                f"the Fisher information{of} of {name!r} is not finite: the loss of a row, or its squared gradient, "
                "is too large for the number format; use compute.dtype float32, or set max_loss"
            )
    if not any(bool(values.any()) for values in ordered.values()):
        raise UserError(
            f"the Fisher information{of} is zero for every parameter in scope: no row's loss depends on them; "
            "use a wider pattern, or for a fresh adapter more warmup_steps"
        )
    return ordered
