"""Per-example gradients from one batched forward and backward pass of a frozen model, by hooks on its modules.

The backward pass of a frozen model gives, at each module, the gradient d of the loss by the module's output. With the
module's activations x that is all its parameters' gradients need, example by example (Goodfellow, arXiv 1510.01799):

    linear     G_b = d_b^T x_b        d_b: (tokens, out), x_b: (tokens, in)
    bias       G_b = sum_t d_bt
    embedding  G_b = the rows d_bt, added up by token id

A parameter that several modules share, or one module uses several times, has the sum of its uses' gradients. Norms and
other modules: see `knowtune.gradients.module_gradients`. Nothing of the size (batch x parameters) is ever held: see
`knowtune.gradients.parameter_gradients`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from knowtune.gradients.accumulators import Accumulator
from knowtune.gradients.module_gradients import ModuleCall, UnsupportedError, per_example_gradients
from knowtune.gradients.parameter_gradients import DenseGradients, EmbeddingGradients, ParameterGradients, tiles


class PerExampleGradients:
    """Hands per-example gradients to an accumulator. Inside the context the model is frozen and in evaluation mode.

    After it, the model is as it was before.

    Args:
        model: any; its parameters must have storage.
        parameters: name -> parameter, those whose gradients are wanted.
    """

    batched = True  # whether several examples may share a pass

    def __init__(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
        """Take the model and what is wanted of it."""
        self.model, self.parameters = model, parameters
        self.names = {id(parameter): name for name, parameter in parameters.items()}
        self.accumulator: Accumulator | None = None
        self.hooks: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        """Keep flags, modes, gradients and the cache's switch; prepare."""
        self.kept = [(p, p.requires_grad, p.grad) for p in self.model.parameters()]
        self.modes = [(module, module.training) for module in self.model.modules()]
        self.config = getattr(self.model, "config", None)
        self.cache = getattr(self.config, "use_cache", None)
        if self.cache:
            self.config.use_cache = False  # type: ignore[union-attr]
        for parameter, _, _ in self.kept:
            parameter.requires_grad_(False)
            parameter.grad = None
        self.model.eval()
        self._prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the model."""
        for hook in self.hooks:
            hook.remove()
        for parameter, flag, gradient in self.kept:
            parameter.requires_grad_(flag)
            parameter.grad = gradient
        for module, training in self.modes:
            module.training = training
        if self.cache:
            self.config.use_cache = self.cache  # type: ignore[union-attr]
        self.kept, self.accumulator = [], None

    def _prepare(self) -> None:
        """Set flags and hooks."""

    def start_forward(self, batch: int) -> None:
        """Say that a forward pass over `batch` examples follows."""

    def backward(self, loss: torch.Tensor, accumulator: Accumulator, *, retain_graph: bool = False) -> None:
        """Run the backward pass of a sum of the examples' losses, and hand all gradients over.

        Args:
            loss: scalar; no example's loss may depend on another example.
            accumulator: takes the gradients.
            retain_graph: whether another backward pass of this forward pass follows.

        Raises:
            UnsupportedError: a module's gradients cannot be told apart by example.
        """
        self.accumulator = accumulator
        if loss.requires_grad:  # otherwise no parameter in scope took part
            loss.backward(retain_graph=retain_graph)


class LoopedGradients(PerExampleGradients):
    """The definition: one example a pass, by autograd. Works for every model; a gradient is dropped once it is used."""

    batched = False

    def _prepare(self) -> None:
        """Let autograd compute the gradients that are wanted, and nothing else."""
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
            self.hooks.append(parameter.register_post_accumulate_grad_hook(self._on_gradient))

    def _on_gradient(self, parameter: torch.Tensor) -> None:
        """Hand a whole gradient over."""
        assert self.accumulator is not None
        assert parameter.grad is not None
        self.accumulator.add_block(self.names[id(parameter)], parameter.grad.float().reshape(1, -1), 0, 0)
        parameter.grad = None


class HookedGradients(PerExampleGradients):
    """A whole batch's examples at once, by hooks on the modules of a frozen model."""

    def _prepare(self) -> None:
        """Hook the modules that own the parameters."""
        self.batch = 0
        self.buffer = torch.empty(0)
        self.num_uses: Counter[str] = Counter()  # calls that used a parameter in this forward pass
        self.pending: dict[str, list[ParameterGradients]] = defaultdict(list)  # of which so many have their gradients
        self.owners: dict[nn.Module, dict[str, str]] = {}
        self.affine: dict[nn.Module, bool] = {}  # tested at a module's first call
        for module in self.model.modules():
            own = {key: self.names[id(p)] for key, p in module._parameters.items() if id(p) in self.names}
            if own:
                self.owners[module] = own
                self.hooks.append(module.register_forward_hook(self._on_forward, with_kwargs=True))

    def start_forward(self, batch: int) -> None:
        """Forget the last pass."""
        self.batch = batch
        self.num_uses.clear()
        self.pending.clear()

    def backward(self, loss: torch.Tensor, accumulator: Accumulator, *, retain_graph: bool = False) -> None:
        """See `PerExampleGradients.backward`."""
        super().backward(loss, accumulator, retain_graph=retain_graph)
        for name in list(self.pending):  # parameters of which some use had no influence on the loss
            self._flush(name)

    def _on_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Keep a module's activations, and wait for the gradient of its output."""
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            raise UnsupportedError(f"{type(module).__name__} returns {type(output).__name__}")
        if output.shape[0] == 1 and self.batch > 1:  # computed once for all examples, as positions are
            output = output.expand(self.batch, *output.shape[1:])
        if not output.requires_grad:
            output = output.detach().requires_grad_(True).clone()  # no operation in place may change a leaf
        for name in self.owners[module].values():
            self.num_uses[name] += 1
        detached = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in args)
        output.register_hook(lambda gradient: self._on_output_gradient(module, detached, kwargs, gradient.detach()))
        return output

    @torch.no_grad()
    def _on_output_gradient(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], gradient: torch.Tensor
    ) -> None:
        """Turn activations and output gradient into parameters' gradients; hand over those that are complete."""
        call = ModuleCall(module, self.owners[module], args, kwargs, gradient, self.batch)
        for name, gradients in per_example_gradients(call, self.affine):
            self.pending[name].append(gradients)
            if len(self.pending[name]) == self.num_uses[name]:
                self._flush(name)

    def _flush(self, name: str) -> None:
        """Hand over a parameter's gradients, the sum over its uses, in blocks."""
        assert self.accumulator is not None
        uses, shape = self.pending.pop(name), self.parameters[name].shape
        dense = [use.gradients for use in uses if isinstance(use, DenseGradients)]
        if len(dense) == len(uses):
            total = torch.stack(dense).sum(0) if len(dense) > 1 else dense[0]
            self.accumulator.add_block(name, total.reshape(self.batch, -1), 0, 0)
        elif len(uses) == 1 and isinstance(uses[0], EmbeddingGradients):
            self.accumulator.add_rows(name, *uses[0].rows(shape[0]))
        else:
            columns, device = shape[1:].numel(), uses[0].device
            for first, count, start, rows in tiles(self.batch, shape[0], columns, device):
                block = self._block(count, rows, columns, device)
                for number, use in enumerate(uses):
                    use.add_to(block, first, start, overwrite=number == 0)
                self.accumulator.add_block(name, block.flatten(1), first, start * columns)

    def _block(self, count: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
        """Return memory for a block; the same one each time, so that it stays in the cache."""
        size = count * rows * columns
        if len(self.buffer) < size or self.buffer.device != device:
            self.buffer = torch.empty(size, dtype=torch.float32, device=device)
        return self.buffer[:size].view(count, rows, columns)
