"""What a selection leaves alone: the entries that carry most of what the base knew. Ours.

    F_kept,j = sum_s F_s,j / mean_i F_s,i
    exclude    Theta_0 = all in scope but the `share` with the highest F_kept; the strategy chooses among Theta_0
    contrast   the strategy ranks by F_new,j / F_kept,j instead of F_new,j, over all in scope

s       a source in `from`: rows that the base knows, general text, or sequences that it wrote itself
F_s     diagonal Fisher information of the model that is chosen among, over `samples` random sequences of s, or all
        (`knowtune.gradients.fisher`): of the pristine base; with `adapter` of the adapter after its warm-up on the new
        facts, for at its start half of its parameters have none. The mean, over the scope, puts sources on one scale
F_new   the strategy's own Fisher information, on the rows that are learned

With `granularity: parameter` the same share of every parameter is left out, so that none loses all its entries.

docs/evidence-preserve.md has what it keeps: ordinary text, at equal learning hardly known facts. `contrast` is there to
be compared with, not to be used. F_kept below `FLOOR` counts as that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knowtune.common.statistics import share_of
from knowtune.gradients.scaled_sum import add_scaled, entries_sum
from knowtune.selectors.information import usable

if TYPE_CHECKING:
    import torch

    from knowtune.models.masks import Mask
    from knowtune.preserve.options import Protect
    from knowtune.selectors.base import Pool

FLOOR = 1e-12  # of the mean of F_kept; less is what float32 makes of zero


@dataclass(frozen=True)
class Protection:
    """What of a pool's parameters carries what the base knew.

    Args:
        kept: F_kept, by name and in the parameter's shape; None where nothing is protected.
        free: the entries that may be chosen; None for all in scope.
        contrast: whether the strategy ranks by F_new / F_kept.
    """

    kept: Mapping[str, torch.Tensor] | None = None
    free: Mask | None = None
    contrast: bool = False

    def rank(self, fisher: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Return what the strategy ranks by: F_new as it is, or F_new / F_kept."""
        if self.kept is None or not self.contrast:
            return fisher
        return {name: values / self.kept[name].to(values.device).clamp(min=FLOOR) for name, values in fisher.items()}

    def protected(self, name: str, size: int) -> int:
        """Count the entries of a parameter that may not be chosen."""
        return 0 if self.free is None else size - len(self.free[name])

    def summary(self, mask: Mapping[str, torch.Tensor]) -> dict[str, float] | None:
        """Say how much is protected, and what of F_kept a mask touches all the same.

        Returns:
            share: of the entries in scope that are protected; mass: of the sum of F_kept that lies on these;
            mass_touched: of that sum that lies on the mask's entries. None where nothing is protected.
        """
        if self.kept is None:
            return None
        size = sum(values.numel() for values in self.kept.values())
        total = entries_sum(self.kept)
        protected = sum(self.protected(name, values.numel()) for name, values in self.kept.items())
        mass = 0.0 if self.free is None else 1 - entries_sum(self.kept, self.free) / total
        return {"share": protected / size, "mass": mass, "mass_touched": entries_sum(self.kept, mask) / total}


def num_free(options: Protect | None, in_scope: int) -> int:
    """Count the entries that a strategy may choose of so many in scope."""
    return in_scope if options is None or options.form == "contrast" else share_of(1 - options.share, in_scope)


def protect(options: Protect | None, pool: Pool, *, per_parameter: bool) -> Protection:
    """Take F_kept, and find what may be chosen.

    Args:
        options: see `Protect`; None for nothing protected.
        pool: whose parameters.
        per_parameter: whether the same share of every parameter is left out, or the highest of all together.

    Raises:
        UserError: a source gives no usable Fisher information.
    """
    if options is None:
        return Protection()
    from knowtune.models import masks

    kept = _kept_fisher(options, pool)
    if options.form == "contrast":
        return Protection(kept, contrast=True)
    in_scope = masks.num_parameters(pool.shapes)
    choose: Any = masks.top_entries_per_parameter if per_parameter else masks.top_entries
    return Protection(kept, masks.rest(choose(kept, in_scope - num_free(options, in_scope)), pool.shapes))


def _kept_fisher(options: Protect, pool: Pool) -> dict[str, torch.Tensor]:
    """Add the Fisher information of the sources, each scaled to mean 1 over the scope."""
    kept: dict[str, torch.Tensor] = {}
    for source in options.sources:
        fisher = usable(pool.kept_fisher(source, options.samples), pool.shapes, of=f" about {source!r}")
        add_scaled(kept, fisher)
    return kept
