"""What a training does against forgetting, in one object that the Trainer asks at every micro-batch.

    L = L_task + replay.weight * (mean loss of replayed target tokens)
               + distill.weight * tau^2 * (mean divergence from the base over tokens that are read)
               + anchor.weight / 2 * sum_j F_j (theta_j - theta0_j)^2

The means are over the whole optimiser step, all micro-batches and processes (`knowtune.preserve.streams` knows how many
tokens these have), and each part of a step adds its share of the anchor. So accumulation 1 equals 4 and one process
two. A part of no weight, or of no share, is left out. The loss, gradient and random numbers of the task's rows are what
they would be without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from knowtune.common.errors import UserError
from knowtune.preserve.anchor import Anchor, open_anchor
from knowtune.preserve.cached_tokens import open_cache
from knowtune.preserve.comparisons import Comparison, open_comparison
from knowtune.preserve.fisher_file import open_fisher
from knowtune.preserve.part import Part
from knowtune.preserve.reading import Reading
from knowtune.preserve.streams import Stream
from knowtune.preserve.teacher import FrozenCopy, Teacher
from knowtune.preserve.teacher_cache import digest_of
from knowtune.tasks.head_task import HeadTask

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.preserve.find_changes import Fisher
    from knowtune.preserve.options import Preserve
    from knowtune.preserve.sources import Material

REPLAY, DISTILL = 1, 2  # of the seeds of streams


class Preservation(TrainerCallback):
    """The terms of the loss that keep what the base knew, and the pull to the base after a step.

    Attributes:
        readings: what is read beside the rows, and why.
        anchor: what holds the weights; None without one, and before a method is attached.
    """

    def __init__(
        self, options: Preserve, material: Material, readings: list[Reading], fisher: Fisher | None, label: str
    ) -> None:
        """Take what is read, the Fisher information of an anchor, the training's name; see `open_preservation`."""
        self.options, self.material, self.readings = options, material, readings
        self.fisher, self.label = fisher, label
        self.anchor: Anchor | None = None
        self._held: list[torch.Tensor] = []  # of each part: its share of the anchor's penalty, without the weight
        self._held_steps: set[int] = set()

    def see_base(self, model: Any) -> None:
        """Look at the pristine base, before a method is attached to it.

        Raises:
            UserError: it has nothing to compare with.
        """
        for reading in self.readings:
            reading.see_base(model)

    def see_attached(self, model: Any) -> None:
        """Choose what stands for the base, when the method is attached and before it is trained.

        Raises:
            UserError: the method and the anchor do not go together.
        """
        teacher: Teacher | None = None
        for reading in self.readings:
            teacher = reading.see_attached(model, teacher)
        if self.options.anchor is not None:
            start = dict(teacher.model.named_parameters()) if isinstance(teacher, FrozenCopy) else None
            where = f"{self.label}: preserve.anchor"
            self.anchor = open_anchor(self.options.anchor, model, where, self.fisher, start)

    def terms(self, model: Any, part: Part, num_tokens: int) -> Iterator[torch.Tensor]:
        """Yield what is added to the loss of a micro-batch, piece by piece: each has a graph of its own.

        Args:
            model: the model that is trained, in training mode, without what a launcher wraps around it.
            part: which micro-batch.
            num_tokens: that the task's rows have in it, with padding.

        Raises:
            UserError: a term is not finite.
        """
        for reading in self.readings:
            yield from reading.terms(model, part, num_tokens)
        penalty = None if self.anchor is None else self.anchor.penalty(model)
        if self.anchor is not None and penalty is not None:
            if not bool(torch.isfinite(penalty)):
                fault = f"preserve.anchor is not finite at step {part.step + 1}"
                raise UserError(f"{self.label}: {fault}. Lower its weight or the learning rate, or raise warmup_steps")
            held = penalty * (part.num_processes / part.parts)  # gradients are averaged over processes
            self._held.append(held.detach() / self.anchor.options.weight)
            self._held_steps.add(part.step)
            yield held

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Drop what a phase before this one left unlogged: a training that goes on after a kill has none of it."""
        self.take_means()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Pull to the base where the anchor is decoupled; the learning rate is that of the step before."""
        if self.anchor is not None:
            self.anchor.after_step(kwargs["model"], kwargs["optimizer"].param_groups)

    def take_means(self) -> dict[str, torch.Tensor]:
        """Give the terms without their weights, as means over the steps since this was last asked.

        Returns:
            `replay` (of a target token), `distill` (of a comparison; of several sources their sum) and `anchor`
            (1/2 sum_j F_j change_j^2).
        """
        means: dict[str, torch.Tensor] = {}
        for reading in self.readings:
            for term, mean in reading.take_means().items():
                means[term] = means[term] + mean if term in means else mean
        if self._held:
            means["anchor"] = torch.stack(self._held).sum() / len(self._held_steps)
            self._held, self._held_steps = [], set()
        return means

    def summary(self) -> dict[str, Any]:
        """Say what was kept, and by what: the options, and of each source how many sequences and their digest."""
        read = {source: self.material.sequences[source] for source in sorted(self.options.sources)}
        return {
            **self.options.model_dump(mode="json", by_alias=True),
            "sources": {source: {"sequences": len(rows), "digest": digest_of(rows)} for source, rows in read.items()},
            "teacher": next((r.comparison.about for r in self.readings if r.comparison is not None), None),
        }


def open_preservation(
    options: Preserve, material: Material, base: Base, seed: int, label: str, virtual_tokens: int = 0
) -> Preservation | None:
    """Prepare what a run does against forgetting; None where all of it is of no weight or no share.

    Args:
        options: `runs.NAME.preserve`.
        material: the sources that it names.
        base: the pristine one.
        seed: of the training; what is read follows it.
        label: what messages call the training.
        virtual_tokens: positions of the context that the method takes.

    Raises:
        UserError: a source has nothing to read for its purpose, sequences are longer than the model can read, or the
            Fisher information of an anchor is of another base or of other sequences.
    """
    replay, where = options.replay, f"{label}: preserve"
    comparisons = _open_comparisons(options, material, base, f"{where}.distill")
    readings = []
    learned = replay if replay is not None and replay.weight > 0 else None
    compared = comparisons.pop("replay", None)
    if replay is not None and replay.share > 0 and (learned is not None or compared is not None):
        stream = _stream(material, replay.source, replay.share, [seed, REPLAY], f"{where}.replay")
        if learned is not None:
            _require_targets(stream, replay.source, f"{where}.replay")
        readings.append(Reading(stream, learned, compared, base, seed, label))
    for number, (source, comparison) in enumerate(comparisons.items()):
        stream = _stream(material, source, comparison.distill.share, [seed, DISTILL + number], f"{where}.distill")
        readings.append(Reading(stream, None, comparison, base, seed, label))
    for reading in readings:
        _require_room(reading.stream, base, virtual_tokens, where)
    anchor, fisher = options.anchor, None
    if anchor is not None and options.reads_fisher:
        if material.folder is None:
            raise UserError(f"{where}.anchor: no folder with its Fisher information; `write_fisher` makes it")
        fisher = open_fisher(base, material, anchor, material.folder)
    if not readings and (anchor is None or anchor.weight == 0):
        print(f"{where} has no effect: no weight, or no share", file=sys.stderr)
        return None
    return Preservation(options, material, readings, fisher, label)


def _open_comparisons(options: Preserve, material: Material, base: Base, where: str) -> dict[str, Comparison]:
    """Open what is compared with the base, by what is read for it; nothing without weight or share."""
    distill = options.distill
    opened: dict[str, Comparison] = {}
    if distill is None or distill.weight == 0:
        return opened
    for name, source in zip(distill.on, options.compared, strict=True):
        _require_readable(base, source, where)
        if name == "replay" or distill.share > 0:
            opened[name] = (
                open_cache(base, material, distill, source, f"{where}.cache")
                if options.reads_cache
                else open_comparison(distill, base.task, where)
            )
    return opened


def _stream(material: Material, source: str, share: float, seed: list[int], where: str) -> Stream:
    """Open the stream of a source."""
    sequences = material.sequences.get(source, [])
    if not sequences:
        raise UserError(f"{where}: nothing of {source!r} to read; look at prepare.replay, source.files and rehearse")
    return Stream(sequences, material.ids[source], share, seed)


def _require_targets(stream: Stream, source: str, where: str) -> None:
    """Refuse to replay what has no target."""
    lacking = [row_id for row, row_id in zip(stream.sequences, stream.ids, strict=True) if not row.num_learned]
    if lacking:
        fault = f"{len(lacking)} sequences of {source!r} have nothing to learn, e.g. {lacking[0]!r}"
        raise UserError(f"{where}: {fault}; a classifier replays known rows, and is distilled on texts")


def _require_readable(base: Base, source: str, where: str) -> None:
    """Refuse what a model with a head does not write or go on from."""
    if isinstance(base.task, HeadTask) and source in ("self", "prompts"):
        raise UserError(f"{where}.on: got {source!r}, of a model that writes no text; take text, known or replay")


def _require_room(stream: Stream, base: Base, virtual_tokens: int, where: str) -> None:
    """Refuse sequences that are longer than the model can read."""
    longest = max(range(len(stream.lengths)), key=stream.lengths.__getitem__)
    room = base.context - virtual_tokens
    if stream.lengths[longest] > room:
        less = f", of which the method's virtual tokens take {virtual_tokens}" if virtual_tokens else ""
        raise UserError(
            f"{where}: sequence {stream.ids[longest]!r} has {stream.lengths[longest]} tokens, more than the base's "
            f"context of {base.context}{less}; give shorter ones"
        )
