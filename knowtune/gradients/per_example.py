"""Every example's own gradient, from one batched forward and backward pass of a frozen model.

A frozen model's backward pass gives, at each module, the gradient d of the loss by the module's output. With the
module's input x that is all its parameters' gradients need, example by example (Goodfellow, arXiv 1510.01799):

    linear     G_b = d_b^T x_b        d_b: (tokens, out), x_b: (tokens, in)
    bias       G_b = sum_t d_bt
    embedding  G_b = the rows d_bt, added up by token id

A parameter that several modules share, or one module uses several times, has the sum of its uses' gradients. Norms are
affine in their weights, entry by entry, so that their values at 0 and 1 give the slope. Other modules (convolutions)
are differentiated one by one by `torch.func`. All of that is in `knowtune.gradients.module_gradients`. Nothing of
the size (batch x
parameters) is ever held: a parameter is worked through in tiles of rows that stay in the CPU's cache, for the products
are bound by memory traffic otherwise.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from knowtune.gradients.module_gradients import Call, Lookup, Product, UnsupportedError, Use, Whole, uses_of

CPU_TILE = 2**18  # floats a thread: 1 MiB of as many examples as fit; larger and smaller ones cost more
GPU_TILE = 2**26  # floats: 256 MiB


class Consumer(Protocol):
    """Takes the gradients of some examples over some rows of one parameter."""

    def block(self, name: str, gradients: torch.Tensor, first: int, start: int) -> None:
        """Take a block.

        Args:
            name: of the parameter.
            gradients: float32, may be overwritten  # (examples, entries).
            first: number of the block's first example in the batch.
            start: flat index of the block's first entry.
        """

    def rows(self, name: str, gradients: torch.Tensor, examples: torch.Tensor, rows: torch.Tensor) -> None:
        """Take whole rows of an embedding, each of one example; all other rows of the batch are zero.

        Args:
            name: of the parameter.
            gradients: float32, may be overwritten  # (pairs, row).
            examples: of each pair, sorted  # (pairs,).
            rows: of each pair  # (pairs,).
        """


class Source:
    """Hands examples' gradients to a consumer. Inside the context the model is in evaluation mode; after it, as before.

    Args:
        model: any; its parameters must have storage.
        parameters: name -> parameter, those whose gradients are wanted.
    """

    batched = True  # whether several examples may share a pass

    def __init__(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
        """Take the model and what is wanted of it."""
        self.model, self.parameters = model, parameters
        self.names = {id(parameter): name for name, parameter in parameters.items()}
        self.consumer: Consumer | None = None
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
        """Give the model back as it was."""
        for hook in self.hooks:
            hook.remove()
        for parameter, flag, gradient in self.kept:
            parameter.requires_grad_(flag)
            parameter.grad = gradient
        for module, training in self.modes:
            module.training = training
        if self.cache:
            self.config.use_cache = self.cache  # type: ignore[union-attr]
        self.kept, self.consumer = [], None

    def _prepare(self) -> None:
        """Set flags and hooks."""

    def forward(self, batch: int) -> None:
        """Say that a forward pass over `batch` examples follows."""

    def backward(self, loss: torch.Tensor, consumer: Consumer, *, again: bool = False) -> None:
        """Run the backward pass of a sum of the examples' losses, and hand all gradients to the consumer.

        Args:
            loss: scalar; no example's loss may depend on another example.
            consumer: who takes them.
            again: whether another backward pass of this forward pass follows.

        Raises:
            UnsupportedError: a module's gradient cannot be told apart by example.
        """
        self.consumer = consumer
        if loss.requires_grad:  # otherwise no parameter in scope took part
            loss.backward(retain_graph=again)


class OneByOne(Source):
    """The definition: one example a pass, by autograd. Works for every model; a gradient is dropped once it is used."""

    batched = False

    def _prepare(self) -> None:
        """Let autograd compute the gradients that are wanted, and nothing else."""
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
            self.hooks.append(parameter.register_post_accumulate_grad_hook(self._arrive))

    def _arrive(self, parameter: torch.Tensor) -> None:
        """Hand a whole gradient over."""
        assert self.consumer is not None
        assert parameter.grad is not None
        self.consumer.block(self.names[id(parameter)], parameter.grad.float().reshape(1, -1), 0, 0)
        parameter.grad = None


class ExampleGradients(Source):
    """A whole batch's examples at once, by hooks on the modules of a frozen model."""

    def _prepare(self) -> None:
        """Hook the modules that own the parameters."""
        self.batch = 0
        self.buffer = torch.empty(0)
        self.expected: Counter[str] = Counter()
        self.arrived: dict[str, list[Use]] = defaultdict(list)
        self.owners: dict[nn.Module, dict[str, str]] = {}
        self.affine: dict[nn.Module, bool] = {}  # found out at a module's first call
        for module in self.model.modules():
            own = {key: self.names[id(p)] for key, p in module._parameters.items() if id(p) in self.names}
            if own:
                self.owners[module] = own
                self.hooks.append(module.register_forward_hook(self._called, with_kwargs=True))

    def forward(self, batch: int) -> None:
        """Forget the last pass."""
        self.batch = batch
        self.expected.clear()
        self.arrived.clear()

    def backward(self, loss: torch.Tensor, consumer: Consumer, *, again: bool = False) -> None:
        """See `Source.backward`."""
        super().backward(loss, consumer, again=again)
        for name in list(self.arrived):  # uses of which some had no influence on the loss
            self._consume(name)

    def _called(self, module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> Any:
        """Remember a module's input, and wait for the gradient of its output."""
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            raise UnsupportedError(f"{type(module).__name__} returns {type(output).__name__}")
        if output.shape[0] == 1 and self.batch > 1:  # computed once for all examples, as positions are
            output = output.expand(self.batch, *output.shape[1:])
        if not output.requires_grad:
            output = output.detach().requires_grad_(True).clone()  # a leaf must not meet an operation in place
        for name in self.owners[module].values():
            self.expected[name] += 1
        detached = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in inputs)
        output.register_hook(lambda delta: self._arrive(module, detached, options, delta.detach()))
        return output

    @torch.no_grad()
    def _arrive(self, module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], delta: torch.Tensor) -> None:
        """Turn input and output gradient into uses; work a parameter through when its last use is there."""
        call = Call(module, self.owners[module], inputs, options, delta, self.batch)
        for name, use in uses_of(call, self.affine):
            self.arrived[name].append(use)
            if len(self.arrived[name]) == self.expected[name]:
                self._consume(name)

    def _consume(self, name: str) -> None:
        """Hand over a parameter's gradients, in blocks."""
        assert self.consumer is not None
        uses, shape = self.arrived.pop(name), self.parameters[name].shape
        if all(isinstance(use, Whole) for use in uses):
            total = torch.stack([use.gradients for use in uses]).sum(0) if len(uses) > 1 else uses[0].gradients  # type: ignore[union-attr]
            self.consumer.block(name, total.reshape(self.batch, -1), 0, 0)
        elif len(uses) == 1 and isinstance(uses[0], Lookup):
            self.consumer.rows(name, *uses[0].pairs(shape[0]))
        else:
            columns = shape[1:].numel()
            for first, count, start, rows in _tiles(self.batch, shape[0], columns, uses[0]):
                block = self._block(count, rows, columns, _device(uses[0]))
                for number, use in enumerate(uses):
                    use.add(block, first, start, fresh=number == 0)
                self.consumer.block(name, block.flatten(1), first, start * columns)

    def _block(self, count: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
        """Give memory for a block; the same one each time, so that it stays in the cache."""
        size = count * rows * columns
        if len(self.buffer) < size or self.buffer.device != device:
            self.buffer = torch.empty(size, dtype=torch.float32, device=device)
        return self.buffer[:size].view(count, rows, columns)


def _tiles(batch: int, rows: int, columns: int, use: Use) -> Iterator[tuple[int, int, int, int]]:
    """Cut (examples, rows) into blocks: first example, examples, first row, rows."""
    size = GPU_TILE if _device(use).type != "cpu" else CPU_TILE * torch.get_num_threads()
    height = math.ceil(rows / math.ceil(rows * columns / size))
    count = max(1, min(batch, size // (height * columns)))
    for start in range(0, rows, height):
        for first in range(0, batch, count):
            yield first, min(count, batch - first), start, min(height, rows - start)


def _device(use: Use) -> torch.device:
    """Say where a use's tensors lie."""
    tensor: torch.Tensor = (
        use.left if isinstance(use, Product) else use.delta if isinstance(use, Lookup) else use.gradients
    )
    return tensor.device
