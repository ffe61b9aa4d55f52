"""What a backbone gives back: states of the input alone, pooled where the config says so."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache

from knowtune.methods.sk_tuning.tuner.cache import hide_text
from knowtune.methods.sk_tuning.tuner.inputs import Pass
from knowtune.methods.sk_tuning.tuner.reading import reads_forward

CLASSIFIERS = ("ForSequenceClassification", "ForMultipleChoice")  # ends of names: transformers' classes for a whole row
FIRST = ("cls", "bos")  # what configs call the first position, where they say what a classifier reads


def classifies(model: Any) -> bool:
    """Whether a model, or a class that it is made from, gives an answer for a whole row."""
    return any(kind.__name__.endswith(CLASSIFIERS) for kind in type(model).__mro__)


def reads_first(backbone: Any) -> bool:
    """Whether a backbone's classifier reads the first position: an encoder's, unless it takes a mean (ModernBERT)."""
    return not reads_forward(backbone) and getattr(backbone.config, "classifier_pooling", FIRST[0]) in FIRST


def input_states(states: torch.Tensor, run: Pass, pooling: str) -> torch.Tensor:
    """Take the input's states, or at each of its positions what a head is to read  # (batch, seq, hidden).

    Args:
        states: of a prompt too, where there is one  # (batch, prompt + seq, hidden)
        run: the pass.
        pooling: see `SkTuningConfig`.
    """
    own = states[:, run.prompt :].contiguous()  # on a view, heads would compute by another path and round otherwise
    if pooling == "released":
        return states.mean(1, keepdim=True).expand_as(own)
    if pooling == "mean":
        mask = torch.ones_like(own[..., :1]) if run.mask is None else run.mask[..., None].to(own)
        num = mask.sum(1, keepdim=True).clamp(min=1)  # a row may be padding alone
        return ((own * mask).sum(1, keepdim=True) / num).expand_as(own)
    return own


def give_back(backbone: Any, output: Any, run: Pass, pooling: str, classified: bool) -> Any:
    """Change what a backbone gives.

    Args:
        backbone: the model.
        output: its own, a tuple or an output of transformers, which is changed in place.
        run: the pass.
        pooling: see `SkTuningConfig`.
        classified: whether a classifier reads it.
    """
    parts = output if isinstance(output, tuple) else tuple(output.values())
    states, pooled = input_states(parts[0], run, pooling), pooling != "model"
    # What a classifier reads first is with a prompt the text's first position, as in a pooler of the backbone.
    read = parts[0] if run.prompt and classified and not pooled and reads_first(backbone) else states
    named = None if isinstance(output, tuple) else getattr(output, "past_key_values", None)
    past = next((part for part in parts if isinstance(part, Cache)), named)
    if past is not None and run.cached:
        hide_text(past, run.adapter, run.num)
    if isinstance(output, tuple):
        rest = (part for part in parts[1:] if run.cached or not isinstance(part, Cache))
        return (read, *(_own_part(part, states, run, pooled) for part in rest))
    output.last_hidden_state = read
    if pooled and getattr(output, "pooler_output", None) is not None:
        output.pooler_output = states[:, 0]
    if run.prompt and getattr(output, "hidden_states", None) is not None:
        output.hidden_states = _trimmed(output.hidden_states, run)
    if past is not None and not run.cached:
        output.past_key_values = None
    return output


def _own_part(part: Any, states: torch.Tensor, run: Pass, pooled: bool) -> Any:
    """Change what a tuple has behind the states, which has no name there: what a pooler gives, all layers' states."""
    if isinstance(part, torch.Tensor) and part.ndim == 2 and pooled:
        return states[:, 0]
    if isinstance(part, tuple) and all(isinstance(layer, torch.Tensor) and layer.ndim == 3 for layer in part):
        return _trimmed(part, run)
    return part


def _trimmed(layers: tuple[torch.Tensor, ...], run: Pass) -> tuple[torch.Tensor, ...]:
    return tuple(layer[:, run.prompt :] for layer in layers)
