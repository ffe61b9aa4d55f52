"""What a step reads beside its rows: a stream's part goes through the model once, whatever it is read for.

A part is read in passes, each with a backward pass of its own, that have about as many tokens as the task's rows: so
it takes memory for one of them at a time.

Replayed sequences are read in training mode as the task's rows are, with dropout from a generator of their own.
Sequences that are compared with the base alone are read in evaluation mode, since a model is used without dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from knowtune.common.errors import UserError
from knowtune.models.hidden_states import evaluating
from knowtune.models.kept_logits import logits_option
from knowtune.models.prompt_mask import prompt_option
from knowtune.preserve.replay import replay_losses
from knowtune.preserve.teacher import choose_teacher, first_outputs

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.preserve.comparisons import Comparison
    from knowtune.preserve.options import Replay
    from knowtune.preserve.part import Part
    from knowtune.preserve.streams import Stream
    from knowtune.preserve.teacher import Inputs, Teacher

PASS = 512  # tokens that a pass may have in any case: fewer make it slow
NUM_SEEN = 2  # sequences that tell whether the model with its adapter off is the base


class Reading:
    """A stream, and what its sequences are read for: to be learned again, to be compared with the base, or both.

    Attributes:
        stream: which sequences.
        replay: options of learning them again, or None.
        comparison: with the base, or None.
    """

    def __init__(
        self, stream: Stream, replay: Replay | None, comparison: Comparison | None, base: Base, seed: int, label: str
    ) -> None:
        """Take what is read, the pristine base, the seed of dropout, and what messages call the training."""
        self.stream, self.replay, self.comparison = stream, replay, comparison
        self.base, self.seed, self.label = base, seed, label
        self._pristine: torch.Tensor | None = None
        self._sums: dict[str, torch.Tensor] = {}
        self._steps: dict[str, set[int]] = {}

    def see_base(self, model: Any) -> None:
        """Look at the pristine base, before a method is attached to it.

        Raises:
            UserError: it has nothing to compare with.
        """
        if self.comparison is not None and self.comparison.runs_base:
            self.comparison.require(model, f"{self.label}: preserve.distill")
            self._pristine = first_outputs(model, self._inputs(model, range(NUM_SEEN))).detach()

    def see_attached(self, model: Any, teacher: Teacher | None) -> Teacher | None:
        """Choose what stands for the base, when the method is attached and before it is trained.

        Args:
            model: with the method attached.
            teacher: what an earlier reading chose, which serves this one too.

        Returns:
            What was chosen; None where nothing is compared by running the base.
        """
        if self.comparison is not None and self.comparison.runs_base:
            assert self._pristine is not None, "see_base comes before"
            inputs = self._inputs(model, range(NUM_SEEN))
            self.comparison.teacher = teacher or choose_teacher(model, self.base, inputs, self._pristine)
            return self.comparison.teacher
        return teacher

    def _inputs(self, model: Any, drawn: range | list[int]) -> Inputs:
        """Pad some sequences, on the model's device."""
        device = next(model.parameters()).device
        sequences = [self.stream.sequences[i] for i in drawn if i < len(self.stream.sequences)]
        return {name: tensor.to(device) for name, tensor in self.base.task.inputs(sequences).items()}

    def _options(self, model: Any, drawn: list[int], real: torch.Tensor) -> dict[str, Any]:
        """Give what a pass over some sequences takes beside them: where their prompts are, which logits are read."""
        if self.comparison is not None and not getattr(model, "takes_prompt_mask", False):
            return self.comparison.options  # all of them are compared; a text for a head has no target to look at
        objective = self.base.task.objective
        targets = objective.targets([self.stream.sequences[i] for i in drawn])
        options = prompt_option(model, targets.to(real.device), real)
        if self.comparison is not None:
            return {**options, **self.comparison.options}
        return {**options, **logits_option(model, objective.num_read(targets))}

    def terms(self, model: Any, part: Part, num_tokens: int) -> Iterator[torch.Tensor]:
        """Yield the weighted terms of a micro-batch in the loss of its step, one for each pass.

        Args:
            model: the model that is trained, without what a launcher wraps around it.
            part: which micro-batch.
            num_tokens: that the task's rows have in it, with padding: a pass has no more, or `PASS`.

        Raises:
            UserError: a term is not finite.
        """
        stream, replay, comparison = self.stream, self.replay, self.comparison
        whole = stream.of_step(part)
        self._note(model, part, whole)
        for number, drawn in enumerate(self._passes(stream.of_part(part), num_tokens)):
            inputs, terms = self._inputs(model, drawn), []
            options = self._options(model, drawn, inputs["attention_mask"])
            of_base = None if comparison is None else comparison.of_base(model, inputs, drawn)
            with self._mode(model, [self.seed, part.step, part.number, number]):
                outputs = model(**inputs, **options)
            if replay is not None:
                losses = replay_losses(self.base.task.objective, outputs.logits, [stream.sequences[i] for i in drawn])
                total = sum(stream.sequences[i].num_learned for i in whole)
                terms.append(replay.weight * self._mean("replay", losses, total, drawn, part))
            if comparison is not None:
                each = comparison.divergences(outputs, of_base, inputs)
                total = sum(comparison.num_compared(stream.sequences[i]) for i in whole)
                weight = comparison.distill.weight * comparison.scale
                terms.append(weight * self._mean("distill", each, total, drawn, part))
            yield torch.stack(terms).sum()

    def _passes(self, drawn: list[int], num_tokens: int) -> list[list[int]]:
        """Split a part into passes of like size, so that it needs no more memory than the task's rows do."""
        padded = len(drawn) * self.stream.lengths[drawn[-1]] if drawn else 0  # the longest is the last
        num = min(math.ceil(padded / max(num_tokens, PASS)), len(drawn))
        return [drawn[len(drawn) * i // num : len(drawn) * (i + 1) // num] for i in range(num)]

    def _mean(self, term: str, each: torch.Tensor, total: int, drawn: list[int], part: Part) -> torch.Tensor:
        """Give a pass's contribution to the mean over the step's `total` targets, and keep it for the curve.

        Raises:
            UserError: it is not finite.
        """
        mean = each.sum() * (part.num_processes / total)  # the processes' gradients are averaged
        if not bool(torch.isfinite(mean)):
            faulty = [
                self.stream.ids[i] for i, fine in zip(drawn, torch.isfinite(each).tolist(), strict=True) if not fine
            ]
            raise UserError(
                f"{self.label}: preserve.{term} is not finite at step {part.step + 1}; sequences: "
                f"{', '.join(faulty[:5])}. Lower its weight or the learning rate, raise warmup_steps, or look at them"
            )
        self._sums[term] += mean.detach()
        return mean

    def _note(self, model: Any, part: Part, whole: list[int]) -> None:
        """Count a step that reads, in all its parts: processes must have the same terms, if one's part is empty too."""
        for term, used in (("replay", self.replay), ("distill", self.comparison)):
            if whole and used is not None:
                self._sums.setdefault(term, torch.zeros((), device=next(model.parameters()).device))
                self._steps.setdefault(term, set()).add(part.step)

    @contextmanager
    def _mode(self, model: Any, seeds: list[int]) -> Iterator[None]:
        """Read without dropout, or with dropout that leaves the task's random numbers alone."""
        if self.replay is None:
            with evaluating(model):
                yield
            return
        device = next(model.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
            yield

    def take_means(self) -> dict[str, torch.Tensor]:
        """Give the mean of each term, without its weight, over the steps since this was last asked; then start anew."""
        means = {term: total / len(self._steps[term]) for term, total in self._sums.items()}
        self._sums, self._steps = {}, {}
        return means
