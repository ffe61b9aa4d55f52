"""What a training does against forgetting, in one object that the Trainer asks at every micro-batch.

    L = L_task + replay.weight * (mean loss of replayed target tokens)
               + distill.weight * tau^2 * (mean divergence from the base over tokens that are read)

The means are over the whole optimiser step, all micro-batches and processes (`knowtune.preserve.streams` knows how many
tokens these have), so accumulation 1 equals 4 and one process two. A part of no weight, or of no share, is left out.
The loss, gradient and random numbers of the task's rows are what they would be without.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.errors import UserError
from knowtune.common.files import text_digest
from knowtune.preserve.comparisons import open_comparison
from knowtune.preserve.reading import Reading
from knowtune.preserve.streams import Part, Stream
from knowtune.tasks.head_task import HeadTask

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.preserve.options import Preserve
    from knowtune.preserve.sources import Material

REPLAY, DISTILL = 1, 2  # of the seeds of streams


class Preservation:
    """The terms of the loss that keep what the base knew.

    Attributes:
        readings: what is read beside the rows, and why.
    """

    def __init__(self, options: Preserve, material: Material, readings: list[Reading]) -> None:
        """Take what is read; see `open_preservation`."""
        self.options, self.material, self.readings = options, material, readings

    def see_base(self, model: Any) -> None:
        """Look at the pristine base, before a method is attached to it.

        Raises:
            UserError: it has nothing to compare with.
        """
        for reading in self.readings:
            reading.see_base(model)

    def see_attached(self, model: Any) -> None:
        """Choose what stands for the base, when the method is attached and before it is trained."""
        for reading in self.readings:
            reading.see_attached(model)

    def loss(self, model: Any, plain: Any, part: Part) -> torch.Tensor | None:
        """Return what is added to the loss of a micro-batch; None where it reads nothing.

        Args:
            model: the model that is trained, as a launcher wraps it.
            plain: the same without the wrapper.
            part: which micro-batch.

        Raises:
            UserError: a term is not finite.
        """
        terms = [term for reading in self.readings for term in reading.terms(model, plain, part)]
        return torch.stack(terms).sum() if terms else None

    def take_means(self) -> dict[str, torch.Tensor]:
        """Give `replay` (of a target token) and `distill` (of a comparison), as means since this was last asked."""
        return {term: mean for reading in self.readings for term, mean in reading.take_means().items()}

    def summary(self) -> dict[str, Any]:
        """Say what was kept, and by what: the options, and of each source how many sequences and their digest."""
        read = {source: self.material.sequences[source] for source in sorted(self.options.sources)}
        return {
            **self.options.model_dump(mode="json", by_alias=True),
            "sources": {
                source: {"sequences": len(rows), "digest": text_digest([row.input_ids for row in rows])}
                for source, rows in read.items()
            },
            "teacher": next((r.comparison.teacher.about for r in self.readings if r.comparison is not None), None),
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
        UserError: a source has nothing to read for its purpose, or sequences are longer than the model can read.
    """
    replay, distill, where = options.replay, options.distill, f"{label}: preserve"
    comparison = None
    if distill is not None and distill.weight > 0:
        comparison = open_comparison(distill, base.task, f"{where}.distill")
    readings = []
    shares_rows = distill is not None and distill.on == "replay"
    learned = replay if replay is not None and replay.weight > 0 else None
    compared = comparison if shares_rows else None
    if replay is not None and replay.share > 0 and (learned is not None or compared is not None):
        stream = _stream(material, replay.source, replay.share, [seed, REPLAY], f"{where}.replay")
        if learned is not None:
            _require_targets(stream, replay.source, f"{where}.replay")
        readings.append(Reading(stream, learned, compared, base, seed, label))
    if distill is not None and comparison is not None and not shares_rows and distill.share > 0:
        _require_readable(base, distill.on, f"{where}.distill")
        stream = _stream(material, distill.on, distill.share, [seed, DISTILL], f"{where}.distill")
        readings.append(Reading(stream, None, comparison, base, seed, label))
    for reading in readings:
        _require_room(reading.stream, base, virtual_tokens, where)
    if not readings:
        print(f"{where} has no effect: no weight, or no share", file=sys.stderr)
        return None
    return Preservation(options, material, readings)


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
