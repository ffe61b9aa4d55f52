"""The two penalties of KaSA's loss, on the r x r side.

    L = L_task + beta L2 + gamma L3      L2 = sum_j ds_j^2      L3 = |B^T B - I|_F + |A A^T - I|_F

ds: (r,)    B: (out, r)    A: (r, in)    I: (r, r)    norms are not squared

KaSA, arXiv 2412.06071, eq. 9 to 12, as PEFT numbers them; read there and in the authors' code. They keep the change in
the form of a singular value decomposition: small singular values, orthonormal vectors.

`form: released` is what the authors' code computes, |B B^T - I|_F + |A^T A - I|_F with identities of out and in. These
are never built, for |A^T A - I_n|_F^2 = R^2 + n - r with R = |A A^T - I_r|_F. It has the same minimum, a floor of
sqrt(n - r) there, and a gradient that is R / sqrt(R^2 + n - r) of the paper's: much weaker near the minimum, and smooth
at it, where the paper's norm has no derivative (here it is 0). The published gammas belong to this form.

`reduction: mean` divides by the number of changed weights, as the authors do; `sum` does not, as in PEFT.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch.utils.checkpoint import checkpoint

from knowtune.common.errors import UserError

Reduction = Literal["mean", "sum"]
Form = Literal["paper", "released"]


def penalty(
    model: Any,
    beta: float,
    gamma: float,
    reduction: Reduction = "mean",
    form: Form = "paper",
    adapter_name: str = "default",
) -> torch.Tensor | None:
    """Return beta L2 + gamma L3 over all changed weights, in float32  # (). None where both coefficients are 0.

    Args:
        model: with a KaSA adapter.
        beta: weight of L2, 0 or more.
        gamma: weight of L3, 0 or more.
        reduction: mean over the changed weights, or sum.
        form: of L3.
        adapter_name: the adapter's.

    Raises:
        UserError: a weight is negative, or the model has no such adapter.
    """
    from knowtune.methods.kasa.tuner.files import kasa_layers

    for name, weight in (("beta", beta), ("gamma", gamma)):
        if not weight >= 0:
            raise UserError(f"KaSA's penalty: {name}: got {weight}; allowed: 0 or more")
    layers = [layer for _, layer in kasa_layers(model, adapter_name)]
    if not layers:
        raise UserError(f"KaSA's penalty: the model has no KaSA adapter {adapter_name!r}; give adapter_name")
    total: torch.Tensor | None = None
    with torch.autocast(layers[0].lora_diag[adapter_name].device.type, enabled=False):
        if beta:
            total = beta * singular_values([layer.lora_diag[adapter_name] for layer in layers])
        if gamma:
            flat = [layer.lora_A[adapter_name].weight for layer in layers]
            flat += [layer.lora_B[adapter_name].weight.T for layer in layers]
            # what it makes of A and B is made again in the backward pass, not kept while the model's is under way
            lost = gamma * checkpoint(orthogonality, flat, form, use_reentrant=False, preserve_rng_state=False)
            total = lost if total is None else total + lost
    return total / len(layers) if total is not None and reduction == "mean" else total


def singular_values(diagonals: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return L2 of all layers  # ()."""
    home = diagonals[0].device
    return torch.cat([diagonal.float().to(home) for diagonal in diagonals]).square().sum()


def orthogonality(matrices: Sequence[torch.Tensor], form: Form) -> torch.Tensor:
    """Return the sum of |M M^T - I|_F, or of sqrt(|M M^T - I|_F^2 + n - r) as released  # ().

    Args:
        matrices: A, or B transposed  # (r, n).
        form: which.
    """
    groups: dict[tuple[Any, ...], list[torch.Tensor]] = defaultdict(list)  # equal ones in one product
    for matrix in matrices:
        groups[*matrix.shape, matrix.device].append(matrix.float())
    sums = []
    for (rank, size, device), group in groups.items():
        stack = torch.stack(group)  # (matrices, r, n)
        rest = stack @ stack.mT - torch.eye(rank, device=device)  # (matrices, r, r)
        if form == "paper":
            norms = torch.linalg.vector_norm(rest, dim=(1, 2))
        else:
            norms = (rest.square().sum((1, 2)) + (size - rank)).sqrt()
        sums.append(norms.sum().to(matrices[0].device))
    return torch.stack(sums).sum()
