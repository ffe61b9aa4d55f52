"""Load checkpoints through transformers' own loader, and refuse weights that do not match."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.common.files import read_card, read_tensors
from knowtune.models.checkpoint_files import (
    LOCAL,
    first_line,
    plain_generation,
    read_config,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


POOLER = "pooler"  # what of a backbone belongs to a classifier's head


def from_checkpoint(
    kind: Any, folder: Path, *, new_head: bool, num_labels: int | None = None, trained: bool = False, **options: Any
) -> PreTrainedModel:
    """Load a checkpoint by one of transformers' auto classes, from this machine, safetensors only, no foreign code.

    Args:
        kind: e.g. AutoModelForCausalLM.
        folder: in transformers layout.
        new_head: whether weights outside the backbone may be missing, and of its pooler, which language models are
            saved without; they are then random, and their names stand in the model's `new_weights`.
        num_labels: outputs of a classifier's head; None for other models.
        trained: whether the pipeline wrote the checkpoint itself; then its names must be the model's, one by one.
        options: of `from_pretrained`.

    Raises:
        UserError: no such head for this architecture, or weights are missing; of a trained checkpoint also weights
            that the model has no place for.
    """
    if trained:
        read_card(folder / "config.json", {})
    config = read_config(folder)
    if num_labels is not None:
        config.num_labels = num_labels
    try:
        model, info = kind.from_pretrained(
            folder,
            config=config,
            generation_config=plain_generation(folder),
            use_safetensors=True,
            output_loading_info=True,
            **LOCAL,
            **options,
        )
    except Exception as error:  # whatever a file that is not as it should be leads transformers to
        if trained:
            for file in sorted(folder.glob("*.safetensors")):
                read_tensors(file)  # says which is damaged
        fault = f"{folder}: transformers cannot load it as {kind.__name__}: {first_line(error)}"
        raise UserError(f"{fault}. Run the stage that wrote it again" if trained else fault) from error
    if trained:
        require_matching(folder, info["missing_keys"], info["unexpected_keys"])
        require_floats(folder, model)
    backbone = f"{model.base_model_prefix}."
    head = f"{backbone}{POOLER}."
    missing = sorted(
        key for key in info["missing_keys"] if not new_head or (key.startswith(backbone) and not key.startswith(head))
    )
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} weights are missing, e.g. {missing[0]}; they would be random. Is this a "
            f"checkpoint of {type(model).__name__}?"
        )
    model.new_weights = sorted(info["missing_keys"])
    loaded: PreTrainedModel = model
    return loaded


def new_modules(model: Any) -> set[str]:
    """Name the modules that hold what a model's checkpoint has not: its own children, or the backbone's pooler."""
    prefix = f"{model.base_model_prefix}.{POOLER}"
    weights = getattr(model, "new_weights", [])
    return {prefix if weight.startswith(f"{prefix}.") else weight.split(".")[0] for weight in weights}


def require_matching(folder: Path, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Refuse trained weights of which some found no place in the model, or some places no weights.

    Raises:
        UserError: names the first of both kinds.
    """
    faults = {"of the model are missing": sorted(missing), "have no place in the model": sorted(unexpected)}
    lines = [f"{len(names)} weights {what}, e.g. {', '.join(names[:3])}" for what, names in faults.items() if names]
    if lines:
        raise UserError(f"{folder}: not what was trained: {'; '.join(lines)}. Run the stage that wrote it again")


def require_floats(folder: Path, model: torch.nn.Module) -> None:
    """Refuse whole numbers in a trained checkpoint of a model that has none: transformers takes them for weights.

    Raises:
        UserError: names the first of them.
    """
    from safetensors import safe_open

    if not all(tensor.is_floating_point() for tensor in model.state_dict().values()):
        return
    for path in sorted(folder.glob("model*.safetensors")):  # as transformers names them
        with safe_open(path, framework="pt") as file:
            odd = [name for name in file.keys() if "F" not in file.get_slice(name).get_dtype()]  # noqa: SIM118
        if odd:
            raise UserError(
                f"{path}: {len(odd)} weights are whole numbers, e.g. {odd[0]}. Run the stage that wrote it again"
            )


def overwrite(model: PreTrainedModel, folder: Path) -> None:
    """Replace all weights of a model, where they lie, by those that `save_pretrained` wrote into a folder.

    They come through transformers' own loader, for names and shapes on disk may be others than in memory: experts of a
    mixture are saved one by one.

    Raises:
        UserError: the folder's weights are not this model's.
    """
    loaded = from_checkpoint(type(model), folder, new_head=False, trained=True, dtype=model.dtype)
    model.load_state_dict(loaded.state_dict())


def as_pretrained(model: torch.nn.Module) -> PreTrainedModel:
    """Narrow the type of a model that is known to be a plain transformers model."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"a plain transformers model is needed, not {type(model).__name__}")
    return model
