"""One pass over examples that adds up squared gradients: batches, labels, processes, resume."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.errors import UserError
from knowtune.common.files import text_digest, whole
from knowtune.common.progress import progress
from knowtune.gradients.accumulators import Diagonal, Sums, Traces
from knowtune.gradients.module_gradients import UnsupportedError
from knowtune.gradients.per_example import ExampleGradients, OneByOne, Source
from knowtune.text.batches import batches_by_length

if TYPE_CHECKING:
    from knowtune.gradients.options import Scoring
    from knowtune.tasks.base import Task

TOLERANCE = 1e-3  # relative; what the check of the first two examples allows before one example a pass is taken
ROUNDED = 8  # times a weight's own precision, which the check allows where that is coarser; mixed examples are off by 1
ROUNDING = 1e-10  # relative to the largest squared gradient; below it lies what float32 makes of zero
FEWEST_CPU, FEWEST_GPU = 256, 2**14  # tokens a pass, however small the model: below, a pass costs more than it saves
SAVED_EVERY = 30.0  # seconds between partial results


class _NotFiniteError(Exception):
    """A batch, its argument, has a gradient that is not finite."""


@dataclass
class Scorer:
    """Runs one pass; arguments as in `knowtune.gradients.fisher.fisher_diagonal`."""

    model: torch.nn.Module
    examples: Sequence[Any]
    task: Task
    parameters: Mapping[str, torch.nn.Parameter]
    scoring: Scoring
    seed: int = 0
    label: str = "Fisher information"
    ids: Sequence[str] | None = None
    work: Path | None = None

    def run(self, sums: Sums) -> dict[str, torch.Tensor]:
        """Add up over all examples of all processes, in batches of like length.

        Raises:
            UserError: nothing to score, or a loss or gradient that is not finite.
        """
        from accelerate.utils import reduce

        if not len(self.examples) or not self.parameters:
            missing = "row" if not len(self.examples) else "parameter"
            raise UserError(f"{self.label}: no {missing} is left to score")
        try:
            self._run(sums)
        except _NotFiniteError as error:
            raise self._blame(error.args[0]) from None
        processes = self._processes()
        if processes.num_processes > 1:
            for total in sums.state().values():
                total.copy_(reduce(total.to(processes.device), "sum"))
        return sums.state()

    def _run(self, sums: Sums) -> None:
        """Add up over the examples of this process."""
        processes = self._processes()
        batches = batches_by_length([len(row.input_ids) for row in self.examples], self.scoring.batch_size)
        kind = ExampleGradients if self._agrees(batches[0], sums) else OneByOne
        mine = batches[processes.process_index :: processes.num_processes]
        partial = self.work / f"partial-{processes.process_index}-of-{processes.num_processes}" if self.work else None
        done, saved = _resumed(partial, sums.state()), time.monotonic()
        with kind(self.model, self.parameters) as source:
            for number in progress(range(done, len(mine)), self.label):
                self._add(source, mine[number], sums)
                if partial and (time.monotonic() - saved > SAVED_EVERY or number + 1 == len(mine)):
                    _save(partial, sums.state(), number + 1)
                    saved = time.monotonic()

    def _processes(self) -> Any:
        """Give this process's place among those that score; on a CPU, accelerate must be told so to find the others."""
        from accelerate import PartialState

        return PartialState(cpu=next(iter(self.parameters.values())).device.type == "cpu")

    def _add(self, source: Source, batch: list[int], sums: Sums) -> None:
        """Add a batch's squared gradients; where one is not finite, find the example."""
        for part in self._parts(batch) if source.batched else [[row] for row in batch]:
            sums.begin(part)
            for loss, last in self._losses(source, part):
                source.backward(loss, sums, again=not last)
        if not _finite(sums):
            raise _NotFiniteError(batch)

    def _parts(self, batch: list[int]) -> list[list[int]]:
        """Cut a batch evenly into passes that stay within the budget of tokens."""
        longest = max(len(self.examples[i].input_ids) for i in batch)
        passes = math.ceil(len(batch) / max(1, tokens_at_once(self.model) // longest))
        size = math.ceil(len(batch) / passes)
        return [batch[i : i + size] for i in range(0, len(batch), size)]

    def _losses(self, source: Source, batch: list[int]) -> Iterator[tuple[torch.Tensor, bool]]:
        """Yield what is to be differentiated, a sum over the examples; and whether it is the last of this batch."""
        rows = [self.examples[i] for i in batch]
        device = next(iter(self.parameters.values())).device
        targets = self.task.targets(rows).to(device)
        source.forward(len(batch))
        with torch.enable_grad():
            logits = self.model(**{name: x.to(device) for name, x in self.task.inputs(rows).items()}).logits
        num_items = torch.stack([self.task.num_items(targets[i : i + 1]) for i in range(len(batch))]).to(device)
        drawn = [(targets, torch.ones(len(batch), device=device))]
        if self.scoring.labels == "expected":
            with torch.no_grad():
                if not bool(self.task.losses(logits, targets).isfinite().all()):  # nothing can be drawn from NaN
                    raise _NotFiniteError(batch)
            lots = [self._lot(i) for i in batch]
            drawn = list(self.task.expected_targets(logits.detach(), targets, self.scoring.draws, lots))
        for number, (labels, weights) in enumerate(drawn, start=1):
            with torch.enable_grad():
                losses = self.task.losses(logits, labels) / num_items.clamp(min=1)  # (batch,)
                scale = weights.sqrt()  # squared again with the gradient
                if self.scoring.max_loss is not None:
                    scale = scale * self.scoring.max_loss / losses.detach().clamp(min=self.scoring.max_loss)
                yield (losses * scale).sum(), number == len(drawn)

    def _lot(self, row: int) -> torch.Generator:
        """Give the lot of a row's expected labels: by the seed and the row, whatever it is scored together with."""
        name = self.examples[row].input_ids if self.ids is None else self.ids[row]
        return torch.Generator().manual_seed(int(text_digest([self.seed, name])[:15], 16))

    def _agrees(self, batch: list[int], start: Sums) -> bool:
        """Compare two examples, scored as one batch, with the definition.

        Sums that have only been started lend their memory; they are zero again afterwards.
        """
        pair = (batch * 2)[:2]
        sums = start if isinstance(start, Diagonal) else Diagonal(self.parameters)
        true = replace(self, scoring=self.scoring.model_copy(update={"labels": "true"}))
        try:
            with ExampleGradients(self.model, self.parameters) as source:
                true._add(source, pair, sums)
        except UnsupportedError as error:
            reason = str(error)
        else:
            largest = {name: float(total.max()) for name, total in sums.sums.items()}
            sums.sign = -1.0
            with OneByOne(self.model, self.parameters) as source:
                true._add(source, pair, sums)
            noise = ROUNDING * max(largest.values())  # of parameters without influence, as a key's bias in attention
            sums.sign = 1.0
            allowed = {
                name: max(TOLERANCE, ROUNDED * torch.finfo(p.dtype).eps) * largest[name] + noise
                for name, p in self.parameters.items()
            }
            off = [name for name, rest in sums.sums.items() if not float(rest.abs().max()) <= allowed[name]]
            reason = f"the gradients of {off[0]} mix examples" if off else ""
        for total in sums.sums.values():
            total.zero_()
        if reason:
            print(f"{self.label}: one example at a time, for {reason}", file=sys.stderr)
        return not reason

    def _blame(self, batch: list[int]) -> UserError:
        """Find the first example of a batch whose gradient is not finite."""
        names = [f"number {row}" if self.ids is None else self.ids[row] for row in batch]
        for row, name in zip(batch, names, strict=True):
            if not self._finite_alone(row):
                advice = "look at this row, or score in float32 (compute.dtype)"
                return UserError(f"{self.label}: the gradient of row {name!r} is not finite; {advice}")
        return UserError(
            f"{self.label}: the gradients of rows {names[0]!r} to {names[-1]!r} have a sum that is not finite, though "
            "each alone is; score in float32 (compute.dtype)"
        )

    def _finite_alone(self, row: int) -> bool:
        """Tell whether one example's own gradient is finite."""
        alone = Traces(len(self.examples), self.parameters, None)
        alone.begin([row])
        try:
            with OneByOne(self.model, self.parameters) as source:
                for loss, last in self._losses(source, [row]):
                    source.backward(loss, alone, again=not last)
        except _NotFiniteError:
            return False
        return bool(alone.sums.isfinite().all())


def tokens_at_once(model: torch.nn.Module) -> int:
    """Say how many tokens may share a pass: so many that the matrices' inputs and outputs take half the weights' room.

    What else is kept for the backward pass takes about as much again. The fewer weights, the fewer tokens: a small
    model's activations would otherwise be many times its size. A GPU needs many tokens to be busy, and has the room.
    """
    matrices = [matrix for module in model.modules() if (matrix := _matrix(module)) is not None]
    width = sum(sum(matrix.shape) for matrix in matrices)  # floats a token
    fewest = FEWEST_CPU if all(p.device.type == "cpu" for p in model.parameters()) else FEWEST_GPU
    return max(fewest, sum(p.numel() for p in model.parameters()) // max(1, 2 * width))


def _matrix(module: torch.nn.Module) -> torch.Tensor | None:
    """Give the matrix that a module multiplies by; a lookup's table is none."""
    weight = getattr(module, "weight", None)
    matrix = isinstance(weight, torch.Tensor) and weight.ndim == 2 and not isinstance(module, torch.nn.Embedding)
    return weight if matrix else None


def _finite(sums: Sums) -> bool:
    """Tell whether all sums are finite. Squares cannot cancel, so that one total per tensor tells."""
    return all(bool(total.sum().isfinite()) for total in sums.state().values())


def _save(partial: Path, state: dict[str, torch.Tensor], done: int) -> None:
    """Write sums and the number of batches in them, whole or not at all."""
    from safetensors.torch import save_file

    partial.parent.mkdir(parents=True, exist_ok=True)
    with whole(partial) as part:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, part, {"done": str(done)})


def _resumed(partial: Path | None, state: dict[str, torch.Tensor]) -> int:
    """Read sums of an interrupted pass into `state`; return how many batches are in them."""
    if partial is None or not partial.is_file():
        return 0
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(partial, framework="pt") as file:
            for name, total in state.items():
                total.copy_(file.get_tensor(name))
            return int(file.metadata()["done"])
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise UserError(f"{partial}: not readable ({error}); remove it, and the scoring starts again") from error
