"""What the pristine base would say, kept on disk, so that a training step runs no base (`distill.cache: top_k`).

For every token that is read there are its k likeliest values before it is known, their log-probabilities at the
temperature, and the log of all others' mass; the logs as 16-bit floats. Beside the sequences lies

    teacher/SOURCE/header.json      base, tokenizer, sequences (digests), temperature, top_k, vocabulary, num_tokens
    teacher/SOURCE/ids.npy          token ids, the likeliest first  # (tokens, k), uint16; uint32 for a large vocabulary
    teacher/SOURCE/log_probs.npy    (tokens, k), float16
    teacher/SOURCE/log_rest.npy     (tokens,), float16

Tokens stand in the order of the sequences. Files are mapped, so that neither writing nor reading holds them in memory.
While they are written `progress.json` says how far; a killed run goes on from there. The header is written last.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from knowtune.common.errors import UserError
from knowtune.common.files import read_json, text_digest, write_json
from knowtune.common.progress import progress
from knowtune.models.forward import batch_inputs
from knowtune.preserve.distill import soften
from knowtune.tasks.head_task import HeadTask
from knowtune.text.batches import batches_by_length

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.preserve.options import Distill, Preserve
    from knowtune.preserve.sources import Material
    from knowtune.text.encoded import Encoded, Labelled

FOLDER, HEADER, PROGRESS = "teacher", "header.json", "progress.json"
BATCH = 16  # sequences per forward pass
EVERY = 32  # batches between notes of progress
LEAST = -60000.0  # a log that 16 bits can hold, of nothing
WEIGHTS = (
    ".safetensors",
    ".index.json",
    "/config.json",
    "generation_config.json",
)  # files of a base but the tokenizer's


def digest_of(sequences: Sequence[Encoded | Labelled]) -> str:
    """Digest the tokens of sequences."""
    return text_digest([row.input_ids for row in sequences])


def header_of(base: Base, sequences: Sequence[Encoded | Labelled], distill: Distill) -> dict[str, Any]:
    """Say of what a cache must be."""
    tokenizer = {name: digest for name, digest in base.card["files"].items() if not f"/{name}".endswith(WEIGHTS)}
    return {
        "base": base.digest,
        "tokenizer": text_digest(tokenizer),
        "sequences": digest_of(sequences),
        "temperature": distill.temperature,
        "top_k": distill.top_k,
        "num_tokens": sum(len(row.input_ids) - 1 for row in sequences),
    }


def write_teacher(base: Base, material: Material, preserve: Preserve, folder: Path) -> None:
    """Write what the base gives for the sequences that a run compares; goes on where it was killed.

    Args:
        base: the pristine one.
        material: with the sources that `distill` names.
        preserve: the run's options, with a `distill` whose cache is top_k.
        folder: of the caches, one a source.

    Raises:
        UserError: the base's numbers are not finite, or it is a model with a head.
    """
    assert preserve.distill is not None
    require_tokens(base, "preserve.distill.cache")
    for source in preserve.compared:
        _write_source(base, material.sequences[source], preserve.distill, folder / source)


def _write_source(base: Base, sequences: Sequence[Encoded | Labelled], distill: Distill, folder: Path) -> None:
    """Write the cache of one source."""
    header, done = header_of(base, sequences, distill), 0
    if (folder / HEADER).is_file() and read_json(folder / HEADER).items() >= header.items():
        return
    model: Any = base.model()
    batches = batches_by_length([len(row.input_ids) for row in sequences], BATCH)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / PROGRESS).is_file() and (noted := read_json(folder / PROGRESS))["header"] == header:
        done, vocabulary = noted["batches"], noted["vocabulary"]
    else:
        vocabulary = _vocabulary(model, sequences)
    arrays = _open_arrays(folder, header["num_tokens"], header["top_k"], vocabulary, new=done == 0)
    starts = starts_of(sequences)
    for number, batch in enumerate(progress(batches[done:], "teacher"), start=done + 1):
        _write_batch(arrays, model, [(sequences[i], starts[i]) for i in batch], header["temperature"])
        if number % EVERY == 0:
            for array in arrays:
                array.flush()
            write_json(folder / PROGRESS, {"header": header, "batches": number, "vocabulary": vocabulary})
    for array in arrays:
        array.flush()
    write_json(folder / HEADER, {**header, "vocabulary": vocabulary})
    (folder / PROGRESS).unlink(missing_ok=True)


def require_tokens(base: Base, where: str) -> None:
    """Refuse a model with a head, which has no distribution of tokens."""
    if isinstance(base.task, HeadTask):
        raise UserError(f"{where}: got 'top_k', of a model with a head, which is not compared by tokens; take none")


@torch.inference_mode()
def _vocabulary(model: Any, sequences: Sequence[Encoded | Labelled]) -> int:
    """Count the outputs of a model."""
    device = next(model.parameters()).device
    return int(model(input_ids=torch.tensor([sequences[0].input_ids[:1]], device=device)).logits.shape[-1])


def _open_arrays(folder: Path, tokens: int, top_k: int, vocabulary: int, *, new: bool) -> list[np.memmap[Any, Any]]:
    """Map ids, log-probabilities and the rest, all of a new cache or of one that is half written."""
    k, whole_numbers = min(top_k, vocabulary), np.uint16 if vocabulary <= 2**16 else np.uint32
    shapes = {
        "ids": (whole_numbers, (tokens, k)),
        "log_probs": (np.float16, (tokens, k)),
        "log_rest": (np.float16, (tokens,)),
    }
    mode = "w+" if new else "r+"
    return [
        np.lib.format.open_memmap(folder / f"{name}.npy", mode=mode, dtype=kind, shape=shape)
        for name, (kind, shape) in shapes.items()
    ]


def starts_of(sequences: Sequence[Encoded | Labelled]) -> list[int]:
    """Give where the tokens of each sequence start."""
    counts = np.array([len(row.input_ids) - 1 for row in sequences])
    starts: list[int] = (counts.cumsum() - counts).tolist()
    return starts


@torch.inference_mode()
def _write_batch(
    arrays: list[np.memmap[Any, Any]], model: Any, rows: list[tuple[Encoded | Labelled, int]], temperature: float
) -> None:
    """Run some sequences and write what the base gives for them."""
    device = next(model.parameters()).device
    inputs = {name: tensor.to(device) for name, tensor in batch_inputs([row for row, _ in rows]).items()}
    logits = model(**inputs).logits
    for (row, start), of_row in zip(rows, logits, strict=True):
        count = len(row.input_ids) - 1
        log_probs = torch.log_softmax(soften(of_row[:count], temperature), -1)  # (tokens, vocabulary)
        if bool(log_probs.isnan().any()):  # -inf is a token that the base never writes
            raise UserError("preserve: what the base computes for a sequence is not finite; try compute.dtype: float32")
        top, ids = log_probs.topk(arrays[0].shape[1])
        rest = log_probs.scatter(1, ids, -torch.inf).logsumexp(-1)
        for array, part in zip(arrays, (ids, top.clamp(min=LEAST), rest.clamp(min=LEAST)), strict=True):
            array[start : start + count] = part.cpu().numpy()
