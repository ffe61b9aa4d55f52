"""AdaLoRA: ranks are taken away where singular values matter least (Zhang et al., arXiv 2303.10512), by PEFT.

W' = W + P diag(lambda) Q      P: (out, r); Q: (r, in); lambda: (r,), zero at the start

PEFT's adapter wants a call after every optimiser step, while the step's gradients are there. It keeps all ranks for
`tinit` steps, takes some away until `tfinal` steps before the end, and trains what is left. Both are PEFT's options;
without them they are a tenth and three tenths of the training, which is our choice. The penalty that holds P and Q
orthogonal is PEFT's too. PEFT adds it to a loss that the model has computed; here the trainer computes the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import Problem, UserError

if TYPE_CHECKING:
    import torch

WARMUP, FINAL = 0.1, 0.3  # shares of the steps for `tinit` and `tfinal`
WEIGHT, INIT_R, TARGET_R = 0.5, 12, 8  # PEFT's defaults
STEPS = {"total_step": 2**31}  # stands for the number of steps until the training says it: PEFT's config needs one
REFUSED_OPTIONS = {
    "total_step": "the training counts its own steps",
    "rank_pattern": "training finds it",
    "r": "ranks begin at init_r, and target_r is their mean at the end",
}


def problems(options: Mapping[str, Any], where: str) -> list[Problem]:
    """Find what PEFT lets pass: ranks can only be taken away."""
    first, last = options.get("init_r", INIT_R), options.get("target_r", TARGET_R)
    if not (isinstance(first, int) and isinstance(last, int)) or 1 <= last <= first:
        return []
    return [Problem(f"{where}.target_r", f"{last}, with init_r {first}", "1 to init_r: ranks are only taken away")]


def begin(model: Any, options: Mapping[str, Any], num_steps: int) -> None:
    """Set the schedule, now that the number of optimiser steps is known.

    Raises:
        UserError: the options leave no step in which ranks are taken away.
    """
    first = options.get("tinit", round(WARMUP * num_steps))
    last = options.get("tfinal", round(FINAL * num_steps))
    if max(first, 1) + last >= num_steps:  # PEFT weighs ranks in a step before it takes some away
        raise UserError(
            f"adalora: tinit {first} and tfinal {last} leave none of {num_steps} steps in which ranks are taken away; "
            "lower them, or train longer"
        )
    allocator = model.base_model.rankallocator
    config, allocator.pattern = allocator.peft_config, None
    config.total_step, config.tinit, config.tfinal = num_steps, first, last


def allocate(model: Any, step: int) -> None:
    """Take ranks away after an optimiser step, the first of which is 1.

    PEFT notes in the config which are left, for its next call; by that note it would save an adapter, and a checkpoint,
    without the others, and warn of a module that has lost all of its own. So the note is out of the config between
    calls, and ranks that were taken away are saved as the zeros that they are.
    """
    allocator = model.base_model.rankallocator
    config = allocator.peft_config
    config.rank_pattern = allocator.pattern
    model.base_model.update_and_allocate(step)
    allocator.pattern, config.rank_pattern = config.rank_pattern, None


def penalty(model: torch.nn.Module, options: Mapping[str, Any]) -> torch.Tensor:
    """Return how far P and Q are from orthogonal: the weight times the mean over matrices of ||P'P - I||.

    The paper's eq. 4 has the squared norms, and their sum; PEFT has this.
    """
    import torch

    terms = []
    for name, matrix in model.named_parameters():
        if matrix.requires_grad and (".lora_A." in name or ".lora_B." in name):
            gram = matrix @ matrix.T if ".lora_A." in name else matrix.T @ matrix  # (r, r)
            terms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)))
    return float(options.get("orth_reg_weight", WEIGHT)) * torch.stack(terms).mean()
