"""Plain checkpoints that the pipeline writes: finite, and on disk what they were in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowtune.checkpoints.base import Base, load_model
from knowtune.common.errors import UserError
from knowtune.models.load import require_matching

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def write_plain(model: Any, base: Base, folder: Path) -> PreTrainedModel:
    """Write a plain checkpoint, see `save_plain`, and read it back.

    Returns:
        The model as it is on disk.

    Raises:
        UserError: weights are not finite, or those that are read are not those that were written.
    """
    save_plain(model, base, folder)
    read = load_model(folder, replace(base.compute, quantize="none"), base.task, trained=True)
    require_written(model, read.state_dict(), folder)
    return read


def save_plain(model: Any, base: Base, folder: Path) -> None:
    """Write a plain checkpoint in the base's dtype with its tokenizer; the model is then in that dtype too.

    Raises:
        UserError: weights are not finite.
    """
    model.to(dtype=base.compute.resolved_dtype())
    require_finite(model, folder)
    model.save_pretrained(folder)
    base.tokenizer().save_pretrained(folder)


def require_written(model: torch.nn.Module, after: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Refuse a checkpoint that is not bit for bit the model in memory.

    Args:
        model: in memory.
        after: what was read, by the names in memory.
        folder: where it lies.

    Raises:
        UserError: names the first weights that differ.
    """
    before = model.state_dict()
    require_matching(folder, before.keys() - after.keys(), after.keys() - before.keys())
    other = sorted(name for name, t in before.items() if not torch.equal(t.float().cpu(), after[name].float().cpu()))
    if other:
        raise UserError(
            f"{folder}: {len(other)} weights are not on disk what they are in memory, e.g. {', '.join(other[:3])}; "
            f"transformers does not save {type(model).__name__} as it is, so it cannot be merged"
        )


def require_finite(model: torch.nn.Module, where: Path | str) -> None:
    """Refuse weights that are not finite: they compute nothing.

    Raises:
        UserError: names the first of them.
    """
    bad = [name for name, parameter in model.named_parameters() if not bool(parameter.isfinite().all())]
    if bad:
        raise UserError(
            f"{where}: {len(bad)} weights are not finite, e.g. {', '.join(bad[:3])}; lower the learning rate, or use a "
            "dtype of more range (compute.dtype)"
        )


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Give what a checkpoint of a model holds by name: parameters, lasting buffers; tied ones by the first name."""
    state = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    return {name: state[name] for name in first.values()}


def untie(model: Any) -> bool:
    """Give every name of a tied parameter a copy of its own, and let the config say so.

    Returns:
        Whether anything was tied.
    """
    seen: set[int] = set()
    tied = False
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) in seen:
                module._parameters[name] = torch.nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
                tied = True
            seen.add(id(parameter))
    if tied:
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False
    return tied


def tie_again(model: PreTrainedModel) -> None:
    """Tie what `untie` has untied, where all of it is still equal, up to the last bits of a sum."""
    configs = (model.config, model.config.get_text_config())
    for config in configs:
        config.tie_word_embeddings = True
    pairs = model.get_expanded_tied_weights_keys(all_submodels=True).items()
    equal = all(
        torch.allclose(model.get_parameter(one), model.get_parameter(other), rtol=1e-5, atol=1e-7)
        for one, other in pairs
    )
    if equal:
        model.tie_weights()
        return
    for config in configs:
        config.tie_word_embeddings = False
