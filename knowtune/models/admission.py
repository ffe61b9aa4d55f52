"""What a model folder must be, before hours are spent on it: whole, safe, readable, unquantised, of finite weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowtune.common.errors import UserError
from knowtune.models.checkpoint_files import (
    end_tokens,
    first_line,
    load_tokenizer,
    read_config,
    read_object,
    requested_attention,
)

CONTEXT_KEYS = (
    "max_position_embeddings",  # as Llama and its like say it
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "context_length",
)
AGAIN = "copy or fetch it again"


@dataclass(frozen=True)
class Admitted:
    """What is found of a model folder.

    Args:
        architecture: as config.json names it.
        context: the longest text that it can read, in tokens; None where nothing limits it.
        notes: what a user should know: what of the checkpoint is not followed, or is missing.
    """

    architecture: str
    context: int | None
    notes: list[str]


def admit(folder: Path) -> Admitted:
    """Check a model folder, without running the model.

    Raises:
        UserError: the folder is no model, needs code of its own, its weights are pickled, quantised, unreadable or not
            finite, or its tokenizer is missing or of another model.
    """
    from knowtune.models.context_length import (  # torch, which the readers of cards do without
        readable_context,
        what_can_be_used,
    )

    if (folder / "adapter_config.json").is_file():
        raise UserError(f"{folder}: an adapter, not a model; give the model it was made on, or merge it first")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: not a model folder (no config.json); give a folder in transformers layout")
    raw = read_object(folder / "config.json")
    if raw.get("auto_map"):
        raise UserError(
            f"{folder}: the model needs code of its own (auto_map in config.json), and knowtune runs no code that "
            "comes with a model; use an architecture that transformers has"
        )
    weights = _weights(folder)
    config = read_config(folder)
    notes = [*_tokenizer_notes(folder, config)]
    attention = requested_attention(raw)
    if attention is not None:
        notes.append(f"config.json asks for {attention}; attention is computed by torch itself instead")
    shapes = _require_finite(weights)
    claimed = claimed_context(raw, config.get_text_config().to_dict(), config.to_dict())
    context = readable_context(config, claimed, shapes)
    if context != claimed:
        notes.append(what_can_be_used(claimed, context))
    named = config.architectures
    architecture = str(named[0]) if isinstance(named, list) and named else "unknown"
    return Admitted(architecture, context, notes)


def claimed_context(*configs: dict[str, Any]) -> int | None:
    """Read the longest sequence that a model says it takes, in tokens; None where it says nothing.

    Args:
        configs: config.json's content, then what transformers makes of it, which has defaults.
    """
    parts = [part for whole in configs for part in (whole.get("text_config"), whole) if isinstance(part, dict)]
    values = (part.get(key) for part in parts for key in CONTEXT_KEYS)
    return next((value for value in values if type(value) is int and value > 0), None)


def _weights(folder: Path) -> list[Path]:
    """List the weight files; refuse pickled ones, and shards that are missing."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(path.name for ending in ("bin", "pt", "pth", "ckpt") for path in folder.glob(f"*.{ending}"))
        what = f"only pickled weights ({pickles[0]}), which can run code" if pickles else "no weights"
        raise UserError(f"{folder}: {what}; save the model as safetensors: model.save_pretrained(folder)")
    for index in sorted(folder.glob("*.safetensors.index.json")):
        shards = read_object(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise UserError(f"{index}: no weight_map, which names the file of every weight; {AGAIN}")
        missing = sorted({name for name in shards.values() if not (folder / name).is_file()})
        if missing:
            raise UserError(f"{folder}: {len(missing)} files of weights are missing, e.g. {missing[0]}; {AGAIN}")
    return weights


def _tokenizer_notes(folder: Path, config: Any) -> list[str]:
    """Refuse a tokenizer that writes ids for which the model has no embedding; say where an end token comes from."""
    tokenizer = load_tokenizer(folder)
    largest, size = max(tokenizer.get_vocab().values(), default=-1), config.get_text_config().vocab_size
    if largest >= size:
        raise UserError(
            f"{folder}: the tokenizer does not fit: its largest id is {largest}, the model has embeddings for ids up "
            f"to {size - 1}; save model and tokenizer of the same checkpoint into the folder"
        )
    if tokenizer.eos_token is None:
        return ["neither tokenizer nor model names an end token: an answer's end is not learned"]
    own = folder / "tokenizer_config.json"
    if tokenizer.eos_token_id in end_tokens(folder) and not (own.is_file() and read_object(own).get("eos_token")):
        return [f"the tokenizer names no end token; the model's own is learned: {tokenizer.eos_token!r}"]
    return []


def _require_finite(weights: Sequence[Path]) -> list[tuple[int, ...]]:
    """Read every weight; refuse NaN and infinity, files that cannot be read, and floats of 8 bits and less.

    Returns:
        The weights' shapes.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    shapes = []
    for path in weights:
        bad: list[str] = []
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    tensor = file.get_tensor(name)
                    shapes.append(tuple(tensor.shape))
                    if tensor.is_floating_point() and tensor.element_size() == 1:
                        raise UserError(
                            f"{path}: quantised weights ({name} is {tensor.dtype}); dequantise and save them"
                        )
                    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                        bad.append(name)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path}: not readable as safetensors ({first_line(error)}); {AGAIN}") from None
        if bad:
            raise UserError(
                f"{path}: {len(bad)} tensors hold numbers that are not finite (NaN or infinity), e.g. {bad[0]}; "
                f"{AGAIN}, or take a checkpoint from before training diverged"
            )
    return shapes
