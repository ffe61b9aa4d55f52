"""Every example's own gradient, from one batched forward and backward pass of a frozen model.

A frozen model's backward pass gives, at each module, the gradient d of the loss by the module's output. With the
module's input x that is all its parameters' gradients need, example by example (Goodfellow, arXiv 1510.01799):

    linear     G_b = d_b^T x_b        d_b: (tokens, out), x_b: (tokens, in)
    bias       G_b = sum_t d_bt
    embedding  G_b = the rows d_bt, added up by token id

A parameter that several modules share, or one module uses several times, has the sum of its uses' gradients. Other
modules (norms, convolutions) are differentiated one by one by `torch.func`. Nothing of the size (batch x parameters)
is ever held: a parameter is worked through in tiles of rows that stay in the CPU's cache, for the products are bound by
memory traffic otherwise.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D

CPU_TILE = 2**18  # floats: 1 MiB, of one example; larger and smaller ones cost up to a third more
GPU_TILE = 2**26  # floats: 256 MiB, of as many examples as fit
WHOLE = 2**28  # floats: 1 GiB, of what is differentiated for all examples at once
KINDS: tuple[Any, ...] = (nn.Linear, nn.Embedding, Conv1D)
EAGER = (
    0.75  # share of the tokens whose gradient is not zero above which leaving out the others costs more than it saves
)


class UnsupportedError(Exception):
    """A parameter's gradient cannot be told apart by example here; the reason is the message."""


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


class _Product:
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
            part = left[:, start : start + num_rows].t()
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


class _Lookup:
    """One use of an embedding."""

    def __init__(self, ids: torch.Tensor, delta: torch.Tensor, padding: int | None) -> None:
        self.ids, self.delta = ids, delta.float()  # (batch, tokens), (batch, tokens, row)
        if padding is not None:  # torch gives the padding's row no gradient
            self.delta = self.delta * (ids != padding).unsqueeze(-1)

    def add(self, block: torch.Tensor, first: int, start: int, *, fresh: bool) -> None:
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


class _Whole:
    """One use of a small parameter, as all examples' whole gradients."""

    def __init__(self, gradients: torch.Tensor) -> None:
        self.gradients = gradients.float()  # (batch, *shape)

    def add(self, block: torch.Tensor, first: int, start: int, *, fresh: bool) -> None:
        rows = self.gradients.view(len(self.gradients), -1, block.shape[-1])
        part = rows[first : first + len(block), start : start + block.shape[1]]
        block.copy_(part) if fresh else block.add_(part)


_Use = _Product | _Lookup | _Whole


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
        self.arrived: dict[str, list[_Use]] = defaultdict(list)
        self.owners: dict[nn.Module, dict[str, str]] = {}
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
        for name, use in _uses(module, self.owners[module], inputs, options, delta, self.batch):
            self.arrived[name].append(use)
            if len(self.arrived[name]) == self.expected[name]:
                self._consume(name)

    def _consume(self, name: str) -> None:
        """Hand over a parameter's gradients, in blocks."""
        assert self.consumer is not None
        uses, shape = self.arrived.pop(name), self.parameters[name].shape
        if all(isinstance(use, _Whole) for use in uses):
            total = torch.stack([use.gradients for use in uses]).sum(0) if len(uses) > 1 else uses[0].gradients  # type: ignore[union-attr]
            self.consumer.block(name, total.reshape(self.batch, -1), 0, 0)
        elif len(uses) == 1 and isinstance(uses[0], _Lookup):
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


def _uses(
    module: nn.Module,
    own: Mapping[str, str],
    inputs: tuple[Any, ...],
    options: Mapping[str, Any],
    delta: torch.Tensor,
    batch: int,
) -> Iterator[tuple[str, _Use]]:
    """Give the uses that one call of a module makes of its parameters."""
    simple = len(inputs) == 1 and not options and isinstance(inputs[0], torch.Tensor)
    kind = next((k for k in KINDS if isinstance(module, k) and type(module).forward is k.forward), None)
    if not simple or kind is None:
        yield from _differentiated(module, own, inputs, options, delta, batch)
        return
    x, d = _by_example(inputs[0], batch, 1 if kind is nn.Embedding else 2), _by_example(delta, batch, 2)
    for key, name in own.items():
        if kind is nn.Embedding:
            if module.max_norm is not None or module.scale_grad_by_freq:
                raise UnsupportedError("an embedding with max_norm or scale_grad_by_freq")
            yield name, _Lookup(x.expand(batch, -1), d, module.padding_idx)  # type: ignore[arg-type]
        elif key == "bias":
            yield name, _Whole(d.sum(1))
        else:
            yield name, _Product(d, x, d) if kind is nn.Linear else _Product(x, d, d)


def _by_example(tensor: torch.Tensor, batch: int, dimensions: int) -> torch.Tensor:
    """View a tensor as (batch, tokens[, features]), where tokens of all examples may have been laid end to end."""
    if tensor.shape[0] == 1 and batch > 1:
        tensor = tensor.expand(batch, *tensor.shape[1:])
    if tensor.shape[0] % batch:
        raise UnsupportedError(f"a module sees {tensor.shape[0]} rows for {batch} examples")
    return tensor.reshape(batch, -1) if dimensions == 1 else tensor.reshape(batch, -1, tensor.shape[-1])


def _differentiated(
    module: nn.Module,
    own: Mapping[str, str],
    inputs: tuple[Any, ...],
    options: Mapping[str, Any],
    delta: torch.Tensor,
    batch: int,
) -> Iterator[tuple[str, _Use]]:
    """Differentiate a module by its own parameters, one example at a time, by `torch.func`."""
    parameters = {key: getattr(module, key).detach() for key in own}
    if batch * sum(tensor.numel() for tensor in parameters.values()) > WHOLE:
        raise UnsupportedError(f"{type(module).__name__} is too large to be differentiated for all examples at once")

    def gradients(given: list[Any], d: torch.Tensor) -> dict[str, torch.Tensor]:
        def call(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
            named = dict(zip(options, given[len(inputs) :], strict=True))
            output: torch.Tensor = torch.func.functional_call(module, parameters, tuple(given[: len(inputs)]), named)
            return output

        found: dict[str, torch.Tensor] = torch.func.vjp(call, parameters)[1](d)[0]
        return found

    def split(x: Any) -> Any:  # (batch, ...) or, tokens laid end to end, (batch * tokens, ...)
        whole = isinstance(x, torch.Tensor) and x.ndim and x.shape[0] % batch == 0
        return x.reshape(batch, -1, *x.shape[1:]) if whole else x

    plain = [*inputs, *options.values()]
    given = [split(x) for x in plain]
    axes = [0 if new is not x else None for new, x in zip(given, plain, strict=True)]
    hooks, module._forward_hooks = module._forward_hooks, type(module._forward_hooks)()  # not called by itself again
    try:
        with torch.enable_grad():
            found = torch.func.vmap(gradients, in_dims=(axes, 0))(given, split(delta))
    except (RuntimeError, ValueError, TypeError) as error:
        raise UnsupportedError(f"{type(module).__name__}: {str(error).splitlines()[0]}") from error
    finally:
        module._forward_hooks = hooks
    for key, name in own.items():
        yield name, _Whole(found[key])


def _tiles(batch: int, rows: int, columns: int, use: _Use) -> Iterator[tuple[int, int, int, int]]:
    """Cut (examples, rows) into blocks: first example, examples, first row, rows."""
    on_gpu = _device(use).type != "cpu"
    height = max(1, min(rows, (GPU_TILE if on_gpu else CPU_TILE) // columns))
    count = max(1, min(batch, GPU_TILE // (height * columns))) if on_gpu else 1
    for start in range(0, rows, height):
        for first in range(0, batch, count):
            yield first, min(count, batch - first), start, min(height, rows - start)


def _device(use: _Use) -> torch.device:
    """Say where a use's tensors lie."""
    tensor: torch.Tensor = (
        use.left if isinstance(use, _Product) else use.delta if isinstance(use, _Lookup) else use.gradients
    )
    return tensor.device
