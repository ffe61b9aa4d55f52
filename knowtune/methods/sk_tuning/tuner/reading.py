"""The text's tokens, and the states that a frozen model has of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from knowtune.common.errors import UserError
from knowtune.methods.sk_tuning.tuner.adapter import State
from knowtune.methods.sk_tuning.tuner.config import SkTuningConfig
from knowtune.models.arguments import arguments_of
from knowtune.models.checkpoint_files import first_line
from knowtune.models.hidden_states import evaluating
from knowtune.text.encode_pairs import encode_pairs

NAME = "sk_tuning"  # of the adapter's module within the backbone
BLANK = "\u2581"  # how SentencePiece writes one
PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)  # caches of a layer that hold keys and values, and no more


def backbone_of(model: Any) -> Any:
    """Return the module that turns tokens into hidden states, which every head reads.

    Raises:
        UserError: the model is none of transformers', an encoder with a decoder, or without such a part.
    """
    config: Any = getattr(model, "config", None)
    if not hasattr(model, "get_decoder") or not hasattr(config, "get_text_config"):
        raise UserError(f"SK-Tuning: got a {type(model).__name__}; allowed: a language model of transformers")
    if config.is_encoder_decoder:
        raise UserError(f"SK-Tuning: {type(model).__name__} has an encoder and a decoder; allowed: one of both")
    found = model.get_decoder()  # of Llama 4 a model with its head, of a decoder of ModernBERT the head
    whole = found if hasattr(found, "get_input_embeddings") else model
    backbone = next((part for part in whole.modules() if _gives_states(part)), None)
    if backbone is None:
        raise UserError(f"SK-Tuning: no part of {type(model).__name__} gives hidden states; take another base")
    return backbone


def _gives_states(part: Any) -> bool:
    """Whether a module turns tokens into hidden states; one that takes labels gives logits."""
    return hasattr(part, "get_input_embeddings") and "labels" not in arguments_of(part)


def kind_and_place(backbone: Any, model: Any) -> dict[str, Any]:
    """Say what transformers calls a backbone, and the name that it has within the model, which saved tensors carry."""
    place = next(name for name, part in model.named_modules() if part is backbone)
    return {"model_type": backbone.config.model_type, "backbone": place}


def reads_forward(backbone: Any) -> bool:
    """Whether a token sees none after it: all but the encoders, which transformers also has as masked models."""
    config = backbone.config.get_text_config()
    return bool(config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES or getattr(config, "is_decoder", False))


def context_of(backbone: Any) -> int | None:
    """Return the most tokens that a model can read; None where its config sets no bound."""
    bound = getattr(backbone.config.get_text_config(), "max_position_embeddings", None)
    return bound - first_position(backbone) if isinstance(bound, int) and bound > 0 else None


def first_position(backbone: Any) -> int:
    """Return the row of a text's first token in a table of positions.

    It is 0, but RoBERTa and its like have rows for padding before it, up to the `padding_idx` of the table.
    """
    named = backbone.named_modules()
    rows = [getattr(part, "padding_idx", None) for name, part in named if name.endswith("position_embeddings")]
    return next((row + 1 for row in rows if row is not None), 0)


def require_whole_passes(backbone: torch.nn.Module) -> None:
    """Refuse a prefix with gradient checkpointing.

    Raises:
        UserError: says why.
    """
    if any(getattr(module, "gradient_checkpointing", False) for module in backbone.modules()):
        raise UserError(
            "SK-Tuning: gradient checkpointing computes layers again without the cache, in which a prefix stands, so "
            "the prefix would be dropped; turn it off, or take variant: prompt"
        )


def find_tokens(config: SkTuningConfig, model: Any, backbone: Any) -> list[int]:
    """Return the tokens of a config's text, with the special tokens that the tokenizer puts around any text.

    Raises:
        UserError: there is no tokenizer; the text has unknown tokens only, tokens that the model has not, or more than
            it can read.
    """
    ids = config.token_ids
    if ids is None:
        ids = tokens_of(load_tokenizer(config, model), config.text or "")
    rows = backbone.get_input_embeddings().weight.shape[0]
    if max(ids) >= rows or min(ids) < 0:
        raise UserError(
            f"SkTuningConfig: the text has the token {max(ids)}, and the model has {rows}; was it made on another base?"
        )
    context = context_of(backbone)
    if context is not None and len(ids) >= context:
        raise UserError(
            f"SkTuningConfig: the text has {len(ids)} tokens, which leaves no room for an input in a context of "
            f"{context}; give a shorter text"
        )
    return list(ids)


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """Turn a text into tokens; one that reads as a special token is ordinary text, as in every text of the pipeline.

    Raises:
        UserError: it becomes no token but unknown ones and blanks, which some tokenizers put before any text.
    """
    plain = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    known = [token for token in plain if token != tokenizer.unk_token_id]
    if not any(tokenizer.decode([token]).replace(BLANK, " ").strip() for token in known):
        what = "unknown tokens only" if plain else "no token"
        raise UserError(f"SK-Tuning: the text {text!r} becomes {what}; give words that the tokenizer knows")
    return [int(token) for token in encode_pairs(tokenizer, [text], [], [0.0])[0].input_ids]


def load_tokenizer(config: SkTuningConfig, model: Any) -> Any:
    """Load the tokenizer by which the text is read.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    name = config.tokenizer_name_or_path or getattr(model, "name_or_path", "")
    try:
        if not name:
            raise ValueError("the model does not say which folder it is from")
        return AutoTokenizer.from_pretrained(name)
    except Exception as error:  # whatever is wrong with a folder
        raise UserError(
            f"SkTuningConfig: no tokenizer for the text ({first_line(error)}); give tokenizer_name_or_path or token_ids"
        ) from error


def read_states(backbone: Any, **text: torch.Tensor) -> list[State]:
    """Let a model read a text, as in evaluation, and return each layer's keys and values.

    Args:
        backbone: in any mode, which it keeps.
        text: input_ids (1, text) or inputs_embeds (1, text, hidden).

    Raises:
        UserError: it has none.
    """
    length = next(iter(text.values())).shape[1]
    cache = DynamicCache(config=backbone.config)
    with evaluating(backbone):
        backbone(**text, past_key_values=cache, use_cache=True)
    states: list[State] = []
    layers: list[Any] = cache.layers
    for layer in layers:
        keys = getattr(layer, "keys", None) if getattr(layer, "is_initialized", False) else None
        if hasattr(layer, "conv_states") or (keys is not None and type(layer) not in PLAIN):
            kind = f"{type(backbone).__name__}, of layer {len(states)}"
            raise UserError(f"SK-Tuning: {kind}, keeps more than keys and values of a text; take variant: prompt")
        if keys is not None and keys.shape[2] != length:
            raise UserError(
                f"SK-Tuning: the text has {length} tokens, and layers of this model see {keys.shape[2]} at most; give "
                "a shorter text"
            )
        states.append(None if keys is None else (keys, layer.values))
    if not any(states):
        raise UserError(f"SK-Tuning: {type(backbone).__name__} keeps no keys and values; take variant: prompt")
    return states


@contextmanager
def as_if_trained() -> Iterator[None]:
    """Compute tensors that later trainings may use, also where nothing needs a gradient now."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def fingerprint(module: torch.nn.Module) -> tuple[Any, ...]:
    """Return what changes when a model's weights do: are written, moved, cast or replaced; adapters left out.

    A write into a weight's `.data` is not seen: it leaves the address, and PyTorch counts no version for it. Values
    would show it, but to compare them waits for the GPU at every step.
    """
    children = [child for name, child in module._modules.items() if name != NAME and child is not None]
    parts = [module, *(part for child in children for part in child.modules())]
    weights = [p for part in parts for p in part._parameters.values() if p is not None]
    device = weights[0].device.type if weights else "cpu"
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return autocast, *((p.data_ptr(), 0 if p.is_inference() else p._version) for p in weights)
