"""AdaLoRA as the bench trains it: PEFT's, with the call at every step that the pipeline's trainer does not make.

Zhang et al., arXiv 2303.10512: ranks are taken away by how much singular values matter, and the singular vectors
are held orthogonal by a penalty. PEFT adds the penalty to a loss that it computes itself; here it is the method's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from knowtune.common.errors import Problem
from knowtune.methods.imsm.method import Imsm
from knowtune.methods.peft import Peft

WARMUP, FINAL = 0.1, 0.3  # shares of the steps before ranks are taken away, and after


class AdaLora(Peft):
    """AdaLoRA; who trains it allocates its ranks."""

    def problems(self, where: str) -> list[Problem]:
        """Find none: the reason for which `peft` refuses the type does not hold here."""
        return []

    def penalty(self, model: torch.nn.Module) -> torch.Tensor:
        """Return how far singular vectors are from orthogonal, a mean over matrices (the paper's eq. 4)."""
        terms = []
        for name, matrix in model.named_parameters():
            if matrix.requires_grad and (".lora_A." in name or ".lora_B." in name):
                gram = matrix @ matrix.T if ".lora_A." in name else matrix.T @ matrix  # (r, r)
                terms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram))))
        return float((self.model_extra or {})["orth_reg_weight"]) * torch.stack(terms).mean()


class WovenAdaLora(Imsm):
    """IMSM over AdaLoRA."""

    @property
    def inside(self) -> AdaLora:
        """AdaLoRA, as this module has it."""
        return AdaLora(type=self.inner.type, **self.inner.options)


def options(steps: int, more: dict[str, Any]) -> dict[str, Any]:
    """Make PEFT's options, whose schedule must know the number of optimiser steps."""
    return {**more, "total_step": steps, "tinit": round(WARMUP * steps), "tfinal": round(FINAL * steps)}


@contextmanager
def allocated(model: Any) -> Iterator[None]:
    """Allocate ranks after every optimiser step inside the context, while the step's gradients are still there."""
    steps = count(1)

    def allocate(*_: Any) -> None:
        model.base_model.update_and_allocate(next(steps))

    hook = register_optimizer_step_post_hook(allocate)
    try:
        yield
    finally:
        hook.remove()
