"""From a module's activations and output gradient to the per-example gradients of its own parameters.

The rules for linear layers, biases and embeddings stand in `knowtune.gradients.per_example`. A norm is affine in its
parameters, entry by entry, so that its outputs where a parameter is 0 and 1 give the slope. Every other module is
differentiated by `torch.func`: a vector-Jacobian product, mapped over the examples.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from knowtune.gradients.parameter_gradients import (
    DenseGradients,
    EmbeddingGradients,
    OuterProducts,
    ParameterGradients,
)

MAX_VMAP_FLOATS = 2**28  # 1 GiB, of what is differentiated for all examples at once
CLOSED_FORM: tuple[Any, ...] = (nn.Linear, nn.Embedding, Conv1D)  # modules whose gradients have a formula here


class UnsupportedError(Exception):
    """The gradients of a parameter cannot be told apart by example here; the reason is the message."""


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module by all examples of a batch, and the gradient that came back to its output.

    Args:
        module: that was called.
        names: key of each of its own parameters that are wanted -> the parameter's name in the model.
        args: positional inputs: the activations.
        kwargs: named inputs.
        output_gradient: of the loss by the output  # (batch, ...) or, tokens laid end to end, (batch * tokens, ...)
        batch: number of examples.
    """

    module: nn.Module
    names: Mapping[str, str]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output_gradient: torch.Tensor
    batch: int

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Return the module's own parameters that are wanted, by key."""
        return {key: getattr(self.module, key).detach() for key in self.names}

    def recompute(self, parameters: dict[str, torch.Tensor], inputs: Sequence[Any] | None = None) -> torch.Tensor:
        """Compute the output with other parameters and, if given, other inputs (positional ones, then named ones)."""
        inputs = [*self.args, *self.kwargs.values()] if inputs is None else inputs
        args, kwargs = tuple(inputs[: len(self.args)]), dict(zip(self.kwargs, inputs[len(self.args) :], strict=True))
        hooks, self.module._forward_hooks = self.module._forward_hooks, OrderedDict()  # else they would call this again
        try:
            output: torch.Tensor = torch.func.functional_call(self.module, parameters, args, kwargs)
        finally:
            self.module._forward_hooks = hooks
        return output


def per_example_gradients(call: ModuleCall, affine: dict[nn.Module, bool]) -> Iterator[tuple[str, ParameterGradients]]:
    """Yield the gradients that one call of a module adds to each of its parameters, by the parameter's name.

    Args:
        call: of the module.
        affine: whether a module is affine in its parameters, of those tested so far; it grows.

    Raises:
        UnsupportedError: they cannot be told apart by example.
    """
    module, batch = call.module, call.batch
    simple = len(call.args) == 1 and not call.kwargs and isinstance(call.args[0], torch.Tensor)
    kind = next((k for k in CLOSED_FORM if isinstance(module, k) and type(module).forward is k.forward), None)
    if not simple or kind is None:
        if module not in affine:
            affine[module] = simple and _is_affine(call)
        yield from _affine_gradients(call) if affine[module] else _vmapped_gradients(call)
        return
    activations = _by_example(call.args[0], batch, 1 if kind is nn.Embedding else 2)
    output_gradient = _by_example(call.output_gradient, batch, 2)
    for key, name in call.names.items():
        if kind is nn.Embedding:
            if module.max_norm is not None or module.scale_grad_by_freq:
                raise UnsupportedError("an embedding with max_norm or scale_grad_by_freq")
            yield name, EmbeddingGradients(activations.expand(batch, -1), output_gradient, module.padding_idx)  # type: ignore[arg-type]
        elif key == "bias":
            yield name, DenseGradients(output_gradient.sum(1))
        elif kind is nn.Linear:
            yield name, OuterProducts(output_gradient, activations, output_gradient)
        else:
            yield name, OuterProducts(activations, output_gradient, output_gradient)


def _by_example(tensor: torch.Tensor, batch: int, dimensions: int) -> torch.Tensor:
    """View a tensor as (batch, tokens[, features]), where tokens of all examples may have been laid end to end."""
    if tensor.shape[0] == 1 and batch > 1:
        tensor = tensor.expand(batch, *tensor.shape[1:])
    if tensor.shape[0] % batch:
        raise UnsupportedError(f"a module sees {tensor.shape[0]} rows for {batch} examples")
    return tensor.reshape(batch, -1) if dimensions == 1 else tensor.reshape(batch, -1, tensor.shape[-1])


def _slope(call: ModuleCall, key: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a module's output where one of its parameters is 0 everywhere, and how much more it is where that is 1."""
    low, high = (
        call.recompute({**call.parameters, key: torch.full_like(call.parameters[key], at)}) for at in (0.0, 1.0)
    )
    return low, high - low


def _is_affine(call: ModuleCall) -> bool:
    """Return whether each entry of the output is affine in the entry of each parameter at the same index."""
    if any(p.shape != call.output_gradient.shape[-1:] for p in call.parameters.values()):
        return False
    output = call.recompute(call.parameters)
    for key, parameter in call.parameters.items():
        low, slope = _slope(call, key)
        if not bool(((low + parameter * slope - output).abs() <= 1e-3 * output.abs().max()).all()):
            return False
    return True


def _affine_gradients(call: ModuleCall) -> Iterator[tuple[str, DenseGradients]]:
    """Differentiate an affine module."""
    for key, name in call.names.items():
        yield name, DenseGradients(_by_example(call.output_gradient * _slope(call, key)[1], call.batch, 2).sum(1))


def _vmapped_gradients(call: ModuleCall) -> Iterator[tuple[str, DenseGradients]]:
    """Differentiate a module by its own parameters, mapped over the examples by `torch.func`."""
    parameters, batch, kind = call.parameters, call.batch, type(call.module).__name__
    if batch * sum(tensor.numel() for tensor in parameters.values()) > MAX_VMAP_FLOATS:
        raise UnsupportedError(f"{kind} is too large to be differentiated for all examples at once")

    def gradients(inputs: list[Any], output_gradient: torch.Tensor) -> dict[str, torch.Tensor]:
        vjp = torch.func.vjp(lambda own: call.recompute(own, inputs), parameters)[1]
        by_key: dict[str, torch.Tensor] = vjp(output_gradient)[0]
        return by_key

    def split(x: Any) -> Any:  # (batch, ...) or, tokens laid end to end, (batch * tokens, ...)
        divisible = isinstance(x, torch.Tensor) and x.ndim and x.shape[0] % batch == 0
        return x.reshape(batch, -1, *x.shape[1:]) if divisible else x

    inputs = [*call.args, *call.kwargs.values()]
    split_inputs = [split(x) for x in inputs]
    axes = [0 if new is not x else None for new, x in zip(split_inputs, inputs, strict=True)]
    try:
        with torch.enable_grad():
            by_key = torch.func.vmap(gradients, in_dims=(axes, 0))(split_inputs, split(call.output_gradient))
    except (RuntimeError, ValueError, TypeError) as error:
        raise UnsupportedError(f"{kind}: {str(error).splitlines()[0]}") from error
    for key, name in call.names.items():
        yield name, DenseGradients(by_key[key])
