"""Weights of checkpoints, read one tensor at a time: whole models would not fit into memory side by side.

Where the files have the names and shapes that transformers gives the weights in memory, tensors are read from them.
Else (experts of a mixture are saved one by one) transformers loads the model, its weights are written under their
names in memory, and are read from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter

from knowtune.checkpoints.base import Base, load_model
from knowtune.checkpoints.tied_weights import weights_of
from knowtune.common.errors import UserError
from knowtune.common.files import read_card
from knowtune.models.checkpoint_files import read_config
from knowtune.models.load import require_floats, require_matching

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LazyWeights(Mapping[str, torch.Tensor]):
    """What a checkpoint holds, by the names in memory; a tensor is read on access.

    Attributes:
        unexpected: names on disk that the model has not.
        untied: whether weights that are one in the model are several in the checkpoint.
    """

    def __init__(self, files: Mapping[str, Any], model: torch.nn.Module) -> None:
        """Take the open file of every name on disk; a tied weight may have any of its names there."""
        ties: dict[int, list[str]] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            ties.setdefault(id(tensor), []).append(name)
        self._files = files
        self._names: dict[str, str] = {}  # in memory -> on disk
        for names in ties.values():
            there = [name for name in names if name in files]
            self._names |= {name: name if name in files else there[0] for name in names if there}
        self.unexpected = files.keys() - self._names.keys()
        self.untied = len(files) > len(ties)

    def __getitem__(self, name: str) -> torch.Tensor:
        """Read a tensor."""
        stored = self._names[name]
        tensor: torch.Tensor = self._files[stored].get_tensor(stored)
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """Read the shape of a tensor."""
        stored = self._names[name]
        return tuple(self._files[stored].get_slice(stored).get_shape())

    def __iter__(self) -> Iterator[str]:
        """Go through the names in memory."""
        return iter(self._names)

    def __len__(self) -> int:
        """Count the names in memory."""
        return len(self._names)


def open_weights(folder: Path, model: PreTrainedModel, base: Base, scratch: Path) -> LazyWeights:
    """Open a checkpoint that the pipeline wrote.

    Args:
        folder: of the checkpoint.
        model: of the same architecture, whose names and ties count.
        base: in its dtype, with its task's head, transformers loads what cannot be read as it lies there.
        scratch: a file for what transformers loads. It must stay while tensors are read.

    Raises:
        UserError: the checkpoint is damaged, or its weights are not this model's.
    """
    weights = _as_it_lies(folder, model)
    if weights is None:
        here = replace(base.compute, device="cpu", quantize="none")
        loaded = load_model(folder, here, base.task, trained=True)
        save_file({name: tensor.detach().contiguous() for name, tensor in weights_of(loaded).items()}, scratch)
        del loaded
        weights = LazyWeights(_open_files([scratch]), model)
        require_matching(folder, model.state_dict().keys() - weights.keys(), weights.unexpected)
        odd = _odd_shapes(weights, model)
        if odd:
            what = f"{len(odd)} weights are of another shape than the base's, e.g. {', '.join(odd[:3])}"
            raise UserError(f"{folder}: {what}. Run the stage that wrote it again")
    return weights


def _as_it_lies(folder: Path, model: PreTrainedModel) -> LazyWeights | None:
    """Open the files themselves where transformers would take every tensor as it is; else None."""
    read_card(folder / "config.json", {})
    config = read_config(folder)
    if any(isinstance(change, WeightConverter) for change in get_model_conversion_mapping(model)):
        return None
    try:
        weights = LazyWeights(_open_files(sorted(folder.glob("*.safetensors"))), model)
    except (SafetensorError, OSError, KeyError):
        return None
    require_floats(folder, model)
    ties = config.get_text_config().tie_word_embeddings, model.config.get_text_config().tie_word_embeddings
    lacking = model.state_dict().keys() - weights.keys()
    if lacking or weights.unexpected or _odd_shapes(weights, model):
        return None
    return None if ties == (True, False) or weights.untied != (ties == (False, True)) else weights


def _open_files(files: list[Path]) -> dict[str, Any]:
    """Open safetensors, by the names in them.

    Raises:
        KeyError: a name stands in two files.
    """
    files_by_name: dict[str, Any] = {}
    for path in files:
        file = safe_open(path, framework="pt")  # lets the file be mapped into memory, and read where it is needed
        for name in file.keys():  # noqa: SIM118
            if name in files_by_name:
                raise KeyError(name)
            files_by_name[name] = file
    return files_by_name


def _odd_shapes(weights: LazyWeights, model: torch.nn.Module) -> list[str]:
    """Name the weights that are of another shape than the model's."""
    return sorted(name for name, tensor in model.state_dict().items() if weights.shape(name) != tuple(tensor.shape))
