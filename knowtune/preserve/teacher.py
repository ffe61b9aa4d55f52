"""What says what the pristine base would: the model with its adapter off, or a frozen copy of the base.

With its adapter off a model computes what the base does, so that one copy serves for both. That is so where the method
leaves the base's weights alone, which no name tells (PiSSA takes principal components out of them, `bias: all` trains
some of them). So it is seen: with the adapter off the model must give what the base gave before the method was
attached, and nothing that is trained may take part. Where either fails, as for full fine-tuning, a frozen copy of the
base is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

from knowtune.models.hidden_states import evaluating

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base

Inputs = dict[str, torch.Tensor]
SAME = 8  # roundings of the largest logit by which two ways to compute one model may differ


class Teacher(Protocol):
    """Gives the pristine base's outputs."""

    about: str

    def __call__(self, model: Any, inputs: Inputs, **options: Any) -> Any:
        """Return what the base gives for a batch, without gradient.

        Args:
            model: the model that is trained, without what a launcher wraps around it.
            inputs: of its forward pass.
            options: of the same.
        """


class AdapterOff:
    """The model that is trained, with its adapter off."""

    about = "the model with its adapter off"

    def __call__(self, model: Any, inputs: Inputs, **options: Any) -> Any:
        """Run it so, in evaluation mode; it is left as it was."""
        with torch.no_grad(), adapter_off(model), evaluating(model):
            return model(**inputs, **options)


class FrozenCopy:
    """A copy of the base that is never trained."""

    about = "a frozen copy of the base"

    def __init__(self, base: Base) -> None:
        """Load it; torch's random state, which a new head's weights are drawn from, is left as it was."""
        with torch.random.fork_rng():
            self.model: Any = base.model().requires_grad_(False)

    def __call__(self, model: Any, inputs: Inputs, **options: Any) -> Any:
        """Run the copy."""
        with torch.no_grad():
            return self.model(**inputs, **options)


@contextmanager
def adapter_off(model: Any) -> Iterator[None]:
    """Switch a PEFT model's adapter off for a while.

    PEFT makes the whole adapter trainable when it switches it on again, and so would train what a mask leaves out; here
    each parameter then requires a gradient exactly if it did before.
    """
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        with model.disable_adapter():
            yield
    finally:
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)


def first_outputs(model: Any, inputs: Inputs) -> torch.Tensor:
    """Return a model's logits in evaluation mode, with a gradient where something that is trained takes part."""
    with evaluating(model), torch.enable_grad():
        logits: torch.Tensor = model(**inputs).logits
    return logits


def choose_teacher(model: Any, base: Base, inputs: Inputs, pristine: torch.Tensor) -> Teacher:
    """Choose what stands for the base beside a model that a method is attached to.

    Args:
        model: with the method attached, before it is trained.
        base: the pristine one.
        inputs: a few sequences.
        pristine: the logits that the base gave for them before the method was attached.
    """
    if not hasattr(model, "disable_adapter"):
        return FrozenCopy(base)
    with adapter_off(model):
        now = first_outputs(model, inputs)
    bound = SAME * torch.finfo(now.dtype).eps * float(pristine.abs().max())
    same = now.shape == pristine.shape and float((now.detach() - pristine).abs().max()) <= bound
    return AdapterOff() if same and not now.requires_grad else FrozenCopy(base)
