"""Gradients of one module's parameters, example by example; see `knowtune.gradients.per_example`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

WHOLE = 2**28  # floats: 1 GiB, of what is differentiated for all examples at once
KINDS: tuple[Any, ...] = (nn.Linear, nn.Embedding, Conv1D)
EAGER = (
    0.75  # share of the tokens whose gradient is not zero above which leaving out the others costs more than it saves
)


class UnsupportedError(Exception):
    """A parameter's gradient cannot be told apart by example here; the reason is the message."""


class Product:
    """One use of a matrix: per example, left^T right, summed over tokens."""

    def __init__(self, left: torch.Tensor, right: torch.Tensor, delta: torch.Tensor) -> None:
        self.left, self.right = left.float(), right.float()  # (batch, tokens, rows), (batch, tokens, columns)
        # A product with an uneven vector is zero for rows of zeros alone, and costs one read; a norm, ten times that.
        uneven = torch.linspace(0.5, 1.5, delta.shape[-1], dtype=delta.dtype, device=delta.device).square_()
        alive = delta @ uneven != 0  # (batch, tokens)
        few = (alive.sum(1) < EAGER * alive.shape[1]).tolist()
        self.active = [
            tokens.nonzero().squeeze(1) if sparse else None for tokens, sparse in zip(alive, few, strict=True)
        ]

    def add(self, block: torch.Tensor, first: int, start: int, *, fresh: bool) -> None:
        """Add to (or, where it is fresh, write) the gradients of examples from `first` on, rows from `start` on."""
        count, num_rows, _ = block.shape
        if count == 1:
            left, right = self._of_one(first)
            part = left[:, start : start + num_rows].t() if num_rows < left.shape[1] else left.t()
            torch.mm(part, right, out=block[0]) if fresh else block[0].addmm_(part, right)
            return
        left = self.left[first : first + count, :, start : start + num_rows].transpose(1, 2)
        right = self.right[first : first + count]
        torch.bmm(left, right, out=block) if fresh else block.baddbmm_(left, right)

    def _of_one(self, example: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Give one example's factors, without tokens that teach nothing (padding, prompts at the output head)."""
        tokens = self.active[example]
        if tokens is None:
            return self.left[example], self.right[example]
        return self.left[example, tokens], self.right[example, tokens]


class Lookup:
    """One use of an embedding."""

    def __init__(self, ids: torch.Tensor, delta: torch.Tensor, padding: int | None) -> None:
        self.ids, self.delta = ids, delta.float()  # (batch, tokens), (batch, tokens, row)
        if padding is not None:  # torch gives the padding's row no gradient
            self.delta = self.delta * (ids != padding).unsqueeze(-1)

    def add(self, block: torch.Tensor, first: int, start: int, *, fresh: bool) -> None:
        """See `Product.add`."""
        if fresh:
            block.zero_()
        for number, gradients in enumerate(block):
            ids = self.ids[first + number] - start
            inside = (ids >= 0) & (ids < block.shape[1])
            gradients.index_add_(0, ids[inside], self.delta[first + number][inside])

    def pairs(self, num_rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Add up the tokens of one id within one example: gradients, examples, rows."""
        offsets = torch.arange(len(self.ids), device=self.ids.device).unsqueeze(1) * num_rows
        keys, place = (self.ids + offsets).flatten().unique(return_inverse=True)
        sums = self.delta.new_zeros(len(keys), self.delta.shape[-1])
        sums.index_add_(0, place, self.delta.flatten(0, 1))
        return sums, keys // num_rows, keys % num_rows


class Whole:
    """One use of a small parameter, as all examples' whole gradients."""

    def __init__(self, gradients: torch.Tensor) -> None:
        self.gradients = gradients.float()  # (batch, *shape)

    def add(self, block: torch.Tensor, first: int, start: int, *, fresh: bool) -> None:
        """See `Product.add`."""
        rows = self.gradients.view(len(self.gradients), -1, block.shape[-1])
        part = rows[first : first + len(block), start : start + block.shape[1]]
        block.copy_(part) if fresh else block.add_(part)


Use = Product | Lookup | Whole


@dataclass(frozen=True)
class Call:
    """One call of a module by all examples of a batch, and what came back to it.

    Args:
        module: that was called.
        own: key of each of its own parameters that are wanted -> name of the parameter.
        inputs: positional ones.
        options: named ones.
        delta: gradient of the output  # (batch, ...) or, tokens laid end to end, (batch * tokens, ...)
        batch: number of examples.
    """

    module: nn.Module
    own: Mapping[str, str]
    inputs: tuple[Any, ...]
    options: Mapping[str, Any]
    delta: torch.Tensor
    batch: int

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Give the module's own parameters that are wanted, by key."""
        return {key: getattr(self.module, key).detach() for key in self.own}

    def again(self, parameters: dict[str, torch.Tensor], given: Sequence[Any] | None = None) -> torch.Tensor:
        """Call the module once more, with other parameters and, where given, other inputs and options."""
        given = [*self.inputs, *self.options.values()] if given is None else given
        named = dict(zip(self.options, given[len(self.inputs) :], strict=True))
        place = (self.module, parameters, tuple(given[: len(self.inputs)]), named)
        hooks, self.module._forward_hooks = self.module._forward_hooks, OrderedDict()  # not called by itself again
        try:
            output: torch.Tensor = torch.func.functional_call(*place)
        finally:
            self.module._forward_hooks = hooks
        return output


def uses_of(call: Call, affine: dict[nn.Module, bool]) -> Iterator[tuple[str, Use]]:
    """Give the uses that one call of a module makes of its parameters."""
    module, batch = call.module, call.batch
    simple = len(call.inputs) == 1 and not call.options and isinstance(call.inputs[0], torch.Tensor)
    kind = next((k for k in KINDS if isinstance(module, k) and type(module).forward is k.forward), None)
    if not simple or kind is None:
        if module not in affine:
            affine[module] = simple and _is_affine(call)
        yield from _sloped(call) if affine[module] else _differentiated(call)
        return
    x = _by_example(call.inputs[0], batch, 1 if kind is nn.Embedding else 2)
    d = _by_example(call.delta, batch, 2)
    for key, name in call.own.items():
        if kind is nn.Embedding:
            if module.max_norm is not None or module.scale_grad_by_freq:
                raise UnsupportedError("an embedding with max_norm or scale_grad_by_freq")
            yield name, Lookup(x.expand(batch, -1), d, module.padding_idx)  # type: ignore[arg-type]
        elif key == "bias":
            yield name, Whole(d.sum(1))
        else:
            yield name, Product(d, x, d) if kind is nn.Linear else Product(x, d, d)


def _by_example(tensor: torch.Tensor, batch: int, dimensions: int) -> torch.Tensor:
    """View a tensor as (batch, tokens[, features]), where tokens of all examples may have been laid end to end."""
    if tensor.shape[0] == 1 and batch > 1:
        tensor = tensor.expand(batch, *tensor.shape[1:])
    if tensor.shape[0] % batch:
        raise UnsupportedError(f"a module sees {tensor.shape[0]} rows for {batch} examples")
    return tensor.reshape(batch, -1) if dimensions == 1 else tensor.reshape(batch, -1, tensor.shape[-1])


def _slope(call: Call, key: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Give a module's output where one of its parameters is 0 everywhere, and how much more it is where that is 1."""
    low, high = (call.again({**call.parameters, key: torch.full_like(call.parameters[key], at)}) for at in (0.0, 1.0))
    return low, high - low


def _is_affine(call: Call) -> bool:
    """Tell whether each entry of the output is affine in the entry of each parameter that stands in its place."""
    if any(p.shape != call.delta.shape[-1:] for p in call.parameters.values()):
        return False
    output = call.again(call.parameters)
    for key, parameter in call.parameters.items():
        low, slope = _slope(call, key)
        if not bool(((low + parameter * slope - output).abs() <= 1e-3 * output.abs().max()).all()):
            return False
    return True


def _sloped(call: Call) -> Iterator[tuple[str, Use]]:
    """Differentiate an affine module."""
    for key, name in call.own.items():
        yield name, Whole(_by_example(call.delta * _slope(call, key)[1], call.batch, 2).sum(1))


def _differentiated(call: Call) -> Iterator[tuple[str, Use]]:
    """Differentiate a module by its own parameters, one example at a time, by `torch.func`."""
    parameters, batch, kind = call.parameters, call.batch, type(call.module).__name__
    if batch * sum(tensor.numel() for tensor in parameters.values()) > WHOLE:
        raise UnsupportedError(f"{kind} is too large to be differentiated for all examples at once")

    def gradients(given: list[Any], d: torch.Tensor) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = torch.func.vjp(lambda own: call.again(own, given), parameters)[1](d)[0]
        return found

    def split(x: Any) -> Any:  # (batch, ...) or, tokens laid end to end, (batch * tokens, ...)
        whole = isinstance(x, torch.Tensor) and x.ndim and x.shape[0] % batch == 0
        return x.reshape(batch, -1, *x.shape[1:]) if whole else x

    plain = [*call.inputs, *call.options.values()]
    given = [split(x) for x in plain]
    axes = [0 if new is not x else None for new, x in zip(given, plain, strict=True)]
    try:
        with torch.enable_grad():
            found = torch.func.vmap(gradients, in_dims=(axes, 0))(given, split(call.delta))
    except (RuntimeError, ValueError, TypeError) as error:
        raise UnsupportedError(f"{kind}: {str(error).splitlines()[0]}") from error
    for key, name in call.own.items():
        yield name, Whole(found[key])
