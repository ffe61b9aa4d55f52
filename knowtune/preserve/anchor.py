"""Anchors: a penalty on the way from the base.

    penalty = weight / 2 * sum_j F_j (theta_j - theta0_j)^2

F_j     1 (`form: l2`: L2-SP, Li et al., arXiv 1802.01483), or the diagonal empirical Fisher information of the pristine
        base on what it knew, scaled to mean 1 (`form: ewc`, Kirkpatrick et al., arXiv 1612.00796, eq. 3):
        `knowtune.preserve.fisher_file`
theta   what `knowtune.preserve.find_changes` finds: the change of weights that a method computes, or its parameters

*Coupled*, the penalty is part of the loss: AdamW divides its gradient by the root of the second moment, together with
the task's, and `max_grad_norm` clips both. *Decoupled*, after the optimiser's step, as AdamW decays weights
(Loshchilov, Hutter, arXiv 1711.05101; for anchors our reconstruction):

    theta <- theta - min(1, lr * weight * F) * (theta - theta0)        never past theta0

Under plain gradient descent both steps differ in one thing alone: the decoupled pull starts from where the step led.
At theta0 the coupled penalty and its gradient are 0. A method whose start is not the base (FourierFT, C3A) is pulled to
the base from its first step.

In bfloat16 a decoupled pull that is smaller than a weight's last bit does nothing.

Departures: Li et al. anchor the backbone and pull a new head to 0 by another weight; here nothing holds a new head.
Kirkpatrick et al. take F on the earlier task; a base's task is unknown, so it is taken on what stands for its
knowledge. Its scale there depends on the model and on the length of what is read, so that a strength would mean nothing
by itself: hence the mean of 1. Sums are in float32, whatever the weights are in.

Memory: `full` one copy of the parameters in their own type (a teacher's frozen copy serves, where there is one); `ewc`
4 bytes for each anchored entry of the base's weights, of `fish` for each masked one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.errors import UserError
from knowtune.preserve.changes import Change, Parameter, difference
from knowtune.preserve.find_changes import Fisher, find_changes

if TYPE_CHECKING:
    from knowtune.preserve.options import Anchor as Options


class Anchor:
    """Holds what a method changes.

    Attributes:
        options: form, strength, coupled or decoupled.
        changes: what is held.
    """

    def __init__(self, options: Options, changes: list[Change]) -> None:
        """Take what is held; see `open_anchor`."""
        self.options, self.changes = options, changes

    def penalty(self, model: Any) -> torch.Tensor | None:
        """Return weight / 2 * sum_j F_j (theta_j - theta0_j)^2 of a whole step; None where it is decoupled  # ()."""
        return None if self.options.decoupled else self.options.weight / 2 * self.square(model)

    def square(self, model: Any) -> torch.Tensor:
        """Return sum_j F_j (theta_j - theta0_j)^2, float32  # ()."""
        named = dict(model.named_parameters())
        with torch.autocast(next(iter(named.values())).device.type, enabled=False):
            squares = [change.square(model, named) for change in self.changes]
        return torch.stack([square.to(squares[0].device) for square in squares]).sum()

    @torch.no_grad()
    def after_step(self, model: Any, groups: Iterable[Mapping[str, Any]]) -> None:
        """Pull to the start where the anchor is decoupled.

        Args:
            model: as the optimiser's step left it.
            groups: the optimiser's parameter groups, with the learning rate of that step.
        """
        if not self.options.decoupled:
            return
        rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
        named = dict(model.named_parameters())
        for change in self.changes:
            assert isinstance(change, Parameter)
            parameter = named[change.name]
            rate = rates.get(id(parameter), 0.0) * self.options.weight
            share = min(1.0, rate) if change.fisher is None else (change.fisher * rate).clamp_(max=1)
            start = change.at_start(named)
            parameter.copy_(parameter.float() - difference(parameter, start) * share)


def open_anchor(
    options: Options,
    model: Any,
    where: str,
    fisher: Fisher | None = None,
    start: Mapping[str, torch.Tensor] | None = None,
) -> Anchor | None:
    """Prepare an anchor; None for weight 0.

    Args:
        options: `preserve.anchor` of a run.
        model: with the method attached, before it is trained or goes on from a checkpoint. A method's random start
            follows the training's seed, so it is the same after a kill.
        where: the key of the anchor, for messages.
        fisher: the base's Fisher information by the name of a weight, in its shape, on the CPU; for `form: ewc`.
        start: the base's own parameters by name, where another part keeps them anyway.

    Raises:
        UserError: the method and the anchor do not go together.
    """
    if options.weight == 0:
        return None
    assert (options.form == "ewc") == (fisher is not None)
    changes = find_changes(model, of=options.of, where=where, fisher=fisher, start=start)
    computed = [change for change in changes if not isinstance(change, Parameter)]
    if options.decoupled and computed:
        fault = f"{computed[0].weight} changes by what an adapter computes, and no step of the optimiser moves it"
        raise UserError(f"{where}.decoupled: got true, but {fault}; allowed: false, or of: parameters")
    return Anchor(options, changes)
