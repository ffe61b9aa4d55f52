"""Changes of weights that an anchor holds: each gives sum_j F_j change_j^2, in float32 and with little memory.

a parameter against its start    sum_j F_j (theta_j - theta0_j)^2
plain LoRA, F = 1                ||s B A||_F^2 = s^2 tr((B^T B)(A A^T)), on the r x r side    A: (r, in), B: (out, r)
KaSA, F = 1                      the same of [s B diag(ds), -P] and [A; Q], on the 2r x 2r side, s = 1
another adapter, or with F       dW = get_delta_weight of a layer, made again backward
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

ADAPTER = "default"


class PullToStart(torch.autograd.Function):
    """sum_j F_j (theta_j - theta0_j)^2 in float32; the differences are made again backward, so that none is kept."""

    @staticmethod
    def forward(
        ctx: Any, parameter: torch.Tensor, start: torch.Tensor | None, fisher: torch.Tensor | None
    ) -> torch.Tensor:
        """Add up; without `start` it is 0, without `fisher` 1."""
        ctx.save_for_backward(parameter, start, fisher)
        return weighted_square(difference(parameter, start), fisher)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        """Return 2 F (theta - theta0)."""
        parameter, start, fisher = ctx.saved_tensors
        pull = difference(parameter, start) * (2 * gradient)
        return (pull if fisher is None else pull.mul_(fisher)).to(parameter.dtype), None, None


def difference(parameter: torch.Tensor, start: torch.Tensor | None) -> torch.Tensor:
    """Return theta - theta0 in float32."""
    return parameter.float() if start is None else parameter.float() - start.float()


def weighted_square(change: torch.Tensor, fisher: torch.Tensor | None) -> torch.Tensor:
    """Return sum_j F_j change_j^2 in float32."""
    square = change.float().square()
    return square.sum() if fisher is None else (square * fisher).sum()


@dataclass(frozen=True)
class Parameter:
    """A trained parameter against its start.

    Args:
        name: of the parameter in the model.
        weight: of the base's weight that it takes the place of, or "".
        start: its value at the start; the name of the frozen parameter that holds it; None for 0.
        fisher: of its entries, or None for 1.
    """

    name: str
    weight: str
    start: torch.Tensor | str | None
    fisher: torch.Tensor | None

    def square(self, model: Any, named: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return sum_j F_j change_j^2  # ()."""
        value: torch.Tensor = PullToStart.apply(named[self.name], self.at_start(named), self.fisher)  # type: ignore[no-untyped-call]
        return value

    def at_start(self, named: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Return its value at the start."""
        return named[self.start] if isinstance(self.start, str) else self.start


@dataclass(frozen=True)
class Delta:
    """The change dW that a layer's adapter computes.

    Args:
        path: of the layer in the model.
        weight: of the base's weight that it changes.
        fisher: of its entries, or None for 1.
    """

    path: str
    weight: str
    fisher: torch.Tensor | None

    def square(self, model: Any, named: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return sum_j F_j dW_j^2  # (). dW is made again backward: one layer's is held at a time."""
        layer = model.get_submodule(self.path)
        if self.fisher is None and (factors := low_rank_factors(layer)) is not None:
            a, b = (factor.float() for factor in factors)  # (r, in), (out, r)
            scaling = 1.0 if says_change(layer) else float(layer.scaling[ADAPTER])
            return scaling**2 * ((b.T @ b) * (a @ a.T)).sum()
        value: torch.Tensor = checkpoint(self._of_delta, layer, use_reentrant=False, preserve_rng_state=False)
        return value

    def _of_delta(self, layer: Any) -> torch.Tensor:
        """Compute dW and its square."""
        delta: torch.Tensor
        if says_change(layer):
            a, b = layer.lora_variant[ADAPTER].change(layer, ADAPTER)
            delta = (b @ a).T if layer.fan_in_fan_out else b @ a
        else:
            delta = layer.get_delta_weight(ADAPTER)
        return weighted_square(delta.to_dense() if delta.is_sparse else delta, self.fisher)


Change = Parameter | Delta


def says_change(layer: Any) -> bool:
    """Whether a layer has a variant of LoRA that says by which factors it changes the base's weight."""
    return hasattr(getattr(layer, "lora_variant", {}).get(ADAPTER), "change")


def low_rank_factors(layer: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return A and B of a plain LoRA layer, or of a variant that says them; None of others  # (r, in), (out, r)."""
    if says_change(layer):
        pair: tuple[torch.Tensor, torch.Tensor] = layer.lora_variant[ADAPTER].change(layer, ADAPTER)
        return pair
    if ADAPTER in getattr(layer, "lora_embedding_A", {}):
        return layer.lora_embedding_A[ADAPTER], layer.lora_embedding_B[ADAPTER]
    factors = [getattr(layer, name, {}) for name in ("lora_A", "lora_B")]
    linear = all(ADAPTER in each and type(each[ADAPTER]).__name__.endswith("Linear") for each in factors)
    if hasattr(layer, "get_param") or not linear:  # the experts of a mixture, convolutions, other types
        return None
    return factors[0][ADAPTER].weight, factors[1][ADAPTER].weight
