"""The base model on disk: its card, its weights, its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.common.files import read_card
from knowtune.models.checkpoint_files import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from knowtune.tasks.base import Task
from knowtune.checkpoints.cards import CARD
from knowtune.models.compute import Compute, _four_bit


@dataclass(frozen=True)
class Base:
    """A base model on disk: its card and the folder its weights lie in."""

    card: dict[str, Any]
    folder: Path
    compute: Compute
    task: Task

    @classmethod
    def open(cls, artefact: Path, source: Path, compute: Compute, task: Task) -> Base:
        """Open what the base stage wrote; the weights lie beside the card, or in `source` when the base is a folder."""
        shape = {"digest": str, "files": dict, "sizes": dict, "context": int | None}
        card = read_card(artefact / CARD, shape, "base")
        folder = artefact if (artefact / "config.json").is_file() else source
        for name in {**card["files"], **card["sizes"]}:
            if not (folder / name).is_file():
                raise UserError(
                    f"{folder / name}: missing; the base of this workspace was made with it. Run the base stage again"
                )
        for name, size in card["sizes"].items():  # cheap; the base stage has digested every byte
            if (folder / name).stat().st_size != size:
                raise UserError(f"{folder / name}: not the file that the base stage saw; run it again (dvc repro)")
        return cls(card, folder, compute, task)

    @property
    def digest(self) -> str:
        """The digest that adapters made on this base carry."""
        return str(self.card["digest"])

    @property
    def context(self) -> int:
        """The longest sequence the model was built for, in tokens."""
        return int(self.card["context"] or 2**31)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer, see `knowtune.models.checkpoint_files`; its longest text is the base's context."""
        tokenizer = load_tokenizer(self.folder)
        tokenizer.model_max_length = self.context
        return tokenizer

    def model(self) -> PreTrainedModel:
        """Load a fresh, pristine copy in evaluation mode; a new head follows torch's global seed."""
        return load_model(self.folder, self.compute, self.task)

    def exact(self) -> Base:
        """Give the same base in float32 and unquantised: for folding and mixing, whatever the training ran in."""
        return replace(self, compute=replace(self.compute, dtype="float32", quantize="none"))


def load_model(folder: Path, compute: Compute, task: Task, *, trained: bool = False) -> PreTrainedModel:
    """Load a checkpoint with a task's head onto the device and in the dtype of `compute`, in evaluation mode.

    Args:
        folder: in transformers layout.
        compute: device, dtype, quantisation.
        task: says which head.
        trained: whether the pipeline wrote the checkpoint itself; see `from_checkpoint`.
    """
    options: dict[str, Any] = {"dtype": compute.resolved_dtype(), "trained": trained}
    if compute.quantize == "4bit":
        options["quantization_config"] = _four_bit(compute)
    model: Any = task.load_model(folder, **options)
    if compute.quantize == "none":
        model = model.to(compute.resolved_device())
    loaded: PreTrainedModel = model.eval()
    return loaded


def require_same_base(adapter_digest: str, base: Base, where: Path) -> None:
    """Refuse an artefact that was made on another base.

    Raises:
        UserError: names both digests.
    """
    if adapter_digest != base.digest:
        raise UserError(
            f"{where}: made on a base with digest {adapter_digest[:12]}, but this base "
            f"({base.card['identity']}) has {base.digest[:12]}; train again, or point `base` at the other model"
        )
