"""The part of a language model whose states its head reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from knowtune.common.errors import UserError

NAME = "imsm"  # of the gate's module within the backbone


def backbone_of(model: Any) -> Any:
    """Return the module that turns tokens into the states, normed, that the output head reads.

    Raises:
        UserError: the model is no causal language model of transformers.
    """
    kind, config = type(model).__name__, getattr(model, "config", None)
    if not hasattr(model, "get_decoder") or not hasattr(config, "get_text_config"):
        raise UserError(f"IMSM: got a {kind}; allowed: a causal language model of transformers")
    text = config.get_text_config()  # type: ignore[union-attr]
    encoder = text.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(text, "is_decoder", False)
    if config.is_encoder_decoder or encoder:  # type: ignore[union-attr]
        raise UserError(
            f"IMSM: {kind} is or has an encoder, whose states depend on later tokens, so that no query comes before an "
            "answer; allowed: a causal language model"
        )
    backbone = model.get_decoder()
    if backbone is model or model.get_output_embeddings() is None:
        raise UserError(f"IMSM: {kind} has no output head over tokens; allowed: a causal language model")
    return backbone


def head_width(model: Any) -> int:
    """Return d, the width of the states that the head reads."""
    head = model.get_output_embeddings()
    return int(getattr(head, "base_layer", head).weight.shape[1])


def require_frozen_head(model: Any) -> None:
    """Refuse an inner adapter at the output head: both memories are read by the base's own, once.

    Raises:
        UserError: names it.
    """
    head: Any = model.get_output_embeddings()
    named = list(head.named_parameters())
    wrapped = isinstance(head, BaseTunerLayer)
    own = wrapped and any("base_layer." not in name for name, _ in named)
    if own or isinstance(head, AuxiliaryTrainingWrapper) or any(p.requires_grad for _, p in named):
        path = next(name for name, module in model.named_modules() if module is head)
        raise UserError(
            f"IMSM: the inner adapter changes {path}, the output head, which both memories share and which stays the "
            "base's; leave it out of target_modules, modules_to_save or the mask"
        )
    if wrapped:  # as FISH's, of a weight that is tied to the embeddings
        head.register_forward_pre_hook(_switch_off)
        head.register_forward_hook(_restore, always_call=True)


def _switch_off(head: Any, _: Any) -> None:
    """Let a head compute as the base's, whatever its weight is elsewhere."""
    head.was_off, head._disable_adapters = head._disable_adapters, True


def _restore(head: Any, _: Any, __: Any) -> None:
    head._disable_adapters = head.was_off


def adapter_layers(model: torch.nn.Module) -> list[tuple[str, Any]]:
    """List path and module of all that an inner adapter switches on and off."""
    return [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) and path.rpartition(".")[2] != NAME
    ]


@contextmanager
def without_adapters(layers: list[Any]) -> Iterator[None]:
    """Compute as the base does, for a while; unlike PEFT's own switch it leaves `requires_grad` alone."""
    before = [layer._disable_adapters for layer in layers]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, off in zip(layers, before, strict=True):
            layer._disable_adapters = off


Probe = list[tuple[torch.nn.Parameter, torch.Tensor]]
NUM_PROBED = 64  # entries of each parameter: what rewrites a matrix changes nearly all


def probe(model: torch.nn.Module) -> Probe:
    """Copy some entries of each parameter."""
    return [(parameter, _entries(parameter)) for parameter in model.parameters()]


def require_same(model: torch.nn.Module, before: Probe, why: str) -> None:
    """Refuse an inner adapter that has written or replaced a parameter of the base.

    Args:
        model: with the inner adapter.
        before: the probe of the model without it.
        why: the reason.

    Raises:
        UserError: names the first parameter.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for number, (parameter, entries) in enumerate(before):
        name = names.get(id(parameter))
        if name is None or not torch.equal(_entries(parameter), entries):
            raise UserError(
                f"IMSM: the inner adapter cannot be woven: {why} ({name or f'parameter {number}'}). Load the base "
                "again; of KaSA take knowtune's, which leaves the base as it is"
            )


def _entries(parameter: torch.Tensor) -> torch.Tensor:
    flat = parameter.detach().reshape(-1)
    return flat[:: max(1, len(flat) // NUM_PROBED)].clone()
