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
from knowtune.common.files import text_digest
from knowtune.common.progress import progress
from knowtune.gradients.accumulators import Accumulator, FisherDiagonal, SquaredNorms
from knowtune.gradients.module_gradients import UnsupportedError
from knowtune.gradients.partial_sums import load_partial, save_partial
from knowtune.gradients.pass_size import tokens_per_pass
from knowtune.gradients.per_example import HookedGradients, LoopedGradients, PerExampleGradients
from knowtune.text.batches import batches_by_length

if TYPE_CHECKING:
    from knowtune.gradients.options import Scoring
    from knowtune.tasks.base import Task

TOLERANCE = 1e-3  # relative; what the check of the first two examples allows before one example a pass is taken
PRECISION_FACTOR = 8  # times a weight's own precision, allowed where that is coarser; mixed examples are off by 1
ZERO_NOISE = 1e-10  # relative to the largest squared gradient; below it lies what float32 makes of zero
SAVE_SECONDS = 30.0  # between partial results


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

    def run(self, sums: Accumulator) -> dict[str, torch.Tensor]:
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
            raise self._locate(error.args[0]) from None
        processes = self._processes()
        if processes.num_processes > 1:
            for total in sums.state().values():
                total.copy_(reduce(total.to(processes.device), "sum"))
        return sums.state()

    def _run(self, sums: Accumulator) -> None:
        """Add up over the examples of this process."""
        processes = self._processes()
        batches = batches_by_length([len(row.input_ids) for row in self.examples], self.scoring.batch_size)
        kind = HookedGradients if self._batching_is_exact(batches[0], sums) else LoopedGradients
        mine = batches[processes.process_index :: processes.num_processes]
        partial = self.work / f"partial-{processes.process_index}-of-{processes.num_processes}" if self.work else None
        done, saved = load_partial(partial, sums.state()), time.monotonic()
        with kind(self.model, self.parameters) as gradients:
            for number in progress(range(done, len(mine)), self.label):
                self._add(gradients, mine[number], sums)
                if partial and (time.monotonic() - saved > SAVE_SECONDS or number + 1 == len(mine)):
                    save_partial(partial, sums.state(), number + 1)
                    saved = time.monotonic()

    def _processes(self) -> Any:
        """Return this process's index among those that score; on a CPU, accelerate finds the others only with `cpu`."""
        from accelerate import PartialState

        return PartialState(cpu=next(iter(self.parameters.values())).device.type == "cpu")

    def _add(self, gradients: PerExampleGradients, batch: list[int], sums: Accumulator) -> None:
        """Add a batch's squared gradients; where one is not finite, find the example."""
        for part in self._micro_batches(batch) if gradients.batched else [[row] for row in batch]:
            sums.begin(part)
            for loss, last in self._losses(gradients, part):
                gradients.backward(loss, sums, retain_graph=not last)
        if not _is_finite(sums):
            raise _NotFiniteError(batch)

    def _micro_batches(self, batch: list[int]) -> list[list[int]]:
        """Cut a batch evenly into passes that stay within the budget of tokens."""
        longest = max(len(self.examples[i].input_ids) for i in batch)
        passes = math.ceil(len(batch) / max(1, tokens_per_pass(self.model) // longest))
        size = math.ceil(len(batch) / passes)
        return [batch[i : i + size] for i in range(0, len(batch), size)]

    def _losses(self, gradients: PerExampleGradients, batch: list[int]) -> Iterator[tuple[torch.Tensor, bool]]:
        """Yield what is to be differentiated, a sum over the examples; and whether it is the last of this batch."""
        rows = [self.examples[i] for i in batch]
        device, objective = next(iter(self.parameters.values())).device, self.task.objective
        targets = objective.targets(rows).to(device)
        gradients.start_forward(len(batch))
        with torch.enable_grad():
            logits = self.model(**{name: x.to(device) for name, x in self.task.inputs(rows).items()}).logits
        num_targets = torch.stack([objective.num_targets(targets[i : i + 1]) for i in range(len(batch))]).to(device)
        labelled = [(targets, torch.ones(len(batch), device=device))]
        if self.scoring.labels == "expected":
            with torch.no_grad():
                if not bool(objective.losses(logits, targets).isfinite().all()):  # nothing can be drawn from NaN
                    raise _NotFiniteError(batch)
            generators = [self._generator(i) for i in batch]
            labelled = list(objective.expected_targets(logits.detach(), targets, self.scoring.draws, generators))
        for number, (labels, weights) in enumerate(labelled, start=1):
            with torch.enable_grad():
                losses = objective.losses(logits, labels) / num_targets.clamp(min=1)  # (batch,)
                scale = weights.sqrt()  # squared again with the gradient
                if self.scoring.max_loss is not None:
                    scale = scale * self.scoring.max_loss / losses.detach().clamp(min=self.scoring.max_loss)
                yield (losses * scale).sum(), number == len(labelled)

    def _generator(self, row: int) -> torch.Generator:
        """Seed the draws of a row's expected labels: by the seed and the row, whatever it is scored together with."""
        name = self.examples[row].input_ids if self.ids is None else self.ids[row]
        return torch.Generator().manual_seed(int(text_digest([self.seed, name])[:15], 16))

    def _batching_is_exact(self, batch: list[int], start: Accumulator) -> bool:
        """Compare two examples, scored as one batch, with the definition.

        Sums that have only been started lend their memory; they are zero again afterwards.
        """
        pair = (batch * 2)[:2]
        sums = start if isinstance(start, FisherDiagonal) else FisherDiagonal(self.parameters)
        true = replace(self, scoring=self.scoring.model_copy(update={"labels": "true"}))
        try:
            with HookedGradients(self.model, self.parameters) as gradients:
                true._add(gradients, pair, sums)
        except UnsupportedError as error:
            reason = str(error)
        else:
            largest = {name: float(total.max()) for name, total in sums.sums.items()}
            sums.sign = -1.0
            with LoopedGradients(self.model, self.parameters) as gradients:
                true._add(gradients, pair, sums)
            noise = ZERO_NOISE * max(largest.values())  # of parameters without influence, as a key's bias in attention
            sums.sign = 1.0
            allowed = {
                name: max(TOLERANCE, PRECISION_FACTOR * torch.finfo(p.dtype).eps) * largest[name] + noise
                for name, p in self.parameters.items()
            }
            off = [name for name, rest in sums.sums.items() if not float(rest.abs().max()) <= allowed[name]]
            reason = f"the gradients of {off[0]} mix examples" if off else ""
        for total in sums.sums.values():
            total.zero_()
        if reason:
            print(f"{self.label}: one example at a time, for {reason}", file=sys.stderr)
        return not reason

    def _locate(self, batch: list[int]) -> UserError:
        """Find the first example of a batch whose gradient is not finite."""
        names = [f"number {row}" if self.ids is None else self.ids[row] for row in batch]
        for row, name in zip(batch, names, strict=True):
            if not self._is_finite_alone(row):
                advice = "look at this row, or score in float32 (compute.dtype)"
                return UserError(f"{self.label}: the gradient of row {name!r} is not finite; {advice}")
        return UserError(
            f"{self.label}: the gradients of rows {names[0]!r} to {names[-1]!r} have a sum that is not finite, though "
            "each alone is; score in float32 (compute.dtype)"
        )

    def _is_finite_alone(self, row: int) -> bool:
        """Return whether one example's own gradient is finite."""
        alone = SquaredNorms(len(self.examples), self.parameters, None)
        alone.begin([row])
        try:
            with LoopedGradients(self.model, self.parameters) as gradients:
                for loss, last in self._losses(gradients, [row]):
                    gradients.backward(loss, alone, retain_graph=not last)
        except _NotFiniteError:
            return False
        return bool(alone.sums.isfinite().all())


def _is_finite(sums: Accumulator) -> bool:
    """Return whether all sums are finite. Squares cannot cancel, so that one total per tensor tells."""
    return all(bool(total.sum().isfinite()) for total in sums.state().values())
