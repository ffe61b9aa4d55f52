"""What a method does between the steps of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from knowtune.methods.base import Method


class MethodSteps(TrainerCallback):
    """Tells the method how many optimiser steps there will be, and each of them."""

    def __init__(self, method: Method) -> None:
        """Take the method."""
        self.method = method

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say how many there will be, in all."""
        self.method.begin(kwargs["model"], state.max_steps)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say which one was taken; its gradients are zeroed after it."""
        self.method.after_step(kwargs["model"], state.global_step + 1)
