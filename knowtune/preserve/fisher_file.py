"""The diagonal Fisher information of the pristine base, as a file that the stage `preserve` writes for `form: ewc`.

    fisher.safetensors    name of a weight in the base -> F in its shape, float32
                          header `about`: base_digest; of each source the sequences' digest, and how many were read

F is the mean over sequences of the squared gradient of each one's mean loss per token (`knowtune.gradients.fisher`), in
evaluation mode, with the labels that the sequences have. It is scaled to mean 1 over all weights, so that a strength
means the same for every model; of several sources the mean is taken. Where the base's head is new there is none: every
gradient comes through the head, and of a random one it says nothing of what the base knew.

All weights are written, whatever the method changes. Writing holds the base and 4 bytes for each entry of a weight;
training reads a tensor at a time, and those alone that it holds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from knowtune.checkpoints.base import require_same_base
from knowtune.common.errors import UserError
from knowtune.common.files import text_digest, whole
from knowtune.gradients.fisher import fisher_diagonal, parameters_in
from knowtune.gradients.options import Scoring
from knowtune.gradients.scaled_sum import add_scaled

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.preserve.options import Anchor
    from knowtune.preserve.sources import Material

FILE = "fisher.safetensors"
SEED = 0  # of the sequences that `samples` draws


class FisherFile:
    """Fisher information by the name of a weight in the base; a tensor is read when it is asked for.

    Attributes:
        about: the header.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            UserError: it is missing or damaged.
        """
        self.path = path
        try:
            self._file: Any = safe_open(path, framework="pt")
            self.about: dict[str, Any] = json.loads((self._file.metadata() or {})["about"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{path}: no Fisher information in it ({error}); run the preserve stage again") from error
        self.names = set(self._file.keys())

    def __call__(self, name: str) -> torch.Tensor:
        """Read a weight's  # its shape, float32, CPU.

        Raises:
            UserError: there is none.
        """
        if name not in self.names:
            raise UserError(f"{self.path}: it has nothing of {name}; run the preserve stage again")
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor


def write_fisher(
    base: Base,
    material: Material,
    anchor: Anchor,
    folder: Path,
    *,
    label: str = "preserve",
    work: Path | None = None,
) -> None:
    """Take the Fisher information of the pristine base on each source, and write it.

    Args:
        base: the pristine one.
        material: what it knew.
        anchor: which sources, and how many sequences of each.
        folder: where the file goes.
        label: what messages call it.
        work: a folder where an interrupted pass goes on.

    Raises:
        UserError: the base's head is new, there are fewer sequences than `samples`, a weight is quantised, a gradient
            is not finite, or all are 0.
    """
    from safetensors.torch import save_file

    model = base.model()
    new = list(getattr(model, "new_weights", []))
    if new:
        got = f"got ewc, and the base's head is new ({', '.join(new[:3])}), so that it guesses at random"
        raise UserError(f"{label}: preserve.anchor.form: {got}; take l2, distill on text, or give a base with a head")
    parameters = parameters_in(model)
    total: dict[str, torch.Tensor] = {}
    for source in anchor.sources:
        positions = material.draw(source, anchor.samples, SEED, f"{label}: preserve.anchor.samples")
        sequences, ids = material.sequences[source], material.ids[source]
        about = f"{label}: Fisher information about {source!r}, {len(positions)} sequences"
        fisher = fisher_diagonal(
            model, [sequences[i] for i in positions], base.task, parameters, Scoring(), seed=SEED,
            work=None if work is None else work / source, label=about, ids=[ids[i] for i in positions],
        )  # fmt: skip
        if not any(bool(values.any()) for values in fisher.values()):
            raise UserError(f"{about}: zero for every weight, so an anchor would hold nothing; take another source")
        add_scaled(total, fisher)
    tensors = {name: (values / len(anchor.sources)).float().cpu().contiguous() for name, values in total.items()}
    with whole(folder / FILE) as path:  # one entry of the header, for several come in any order
        save_file(tensors, path, {"about": json.dumps(_about(base, material, anchor), sort_keys=True)})


def open_fisher(base: Base, material: Material, anchor: Anchor, folder: Path) -> FisherFile:
    """Open what `write_fisher` wrote for this base and source.

    Raises:
        UserError: it is of another base, or of other sequences.
    """
    file = FisherFile(folder / FILE)
    require_same_base(str(file.about.get("base_digest")), base, file.path)
    if file.about != _about(base, material, anchor):
        raise UserError(f"{file.path}: taken on other sequences than this run's; run the preserve stage again")
    return file


def _about(base: Base, material: Material, anchor: Anchor) -> dict[str, Any]:
    """Say what the Fisher information is of."""
    sources = {
        source: {
            "digest": text_digest([[row.input_ids, _labels(row)] for row in material.sequences[source]]),
            "sequences": anchor.samples or len(material.sequences[source]),
        }
        for source in anchor.sources
    }
    return {"base_digest": base.digest, "sources": sources}


def _labels(row: Any) -> Any:
    """Return what is learned of a sequence."""
    return row.labels if hasattr(row, "labels") else row.label
