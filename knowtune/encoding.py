"""From rows of text to tokens: which tokens are read, and which are learned.

A row reads `<s> prompt target </s>` (start and end where the tokenizer has them). Labels are -100 on everything but the
target and the end token. Whether a fact was answered right is judged on the target's tokens alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """One row as tokens.

    Args:
        input_ids: start token, prompt, target, end token.
        target_start: index of the target's first token.
        target_end: index after the target's last token; the end token, where there is one, stands here.
    """

    input_ids: list[int]
    target_start: int
    target_end: int

    @property
    def labels(self) -> list[int]:
        """Labels for training: -100 on the prompt, the ids of target and end token after it."""
        return [IGNORED] * self.target_start + self.input_ids[self.target_start :]

    @property
    def target_mask(self) -> list[bool]:
        """True on the target's own tokens."""
        return [self.target_start <= i < self.target_end for i in range(len(self.input_ids))]


def encode_rows(tokenizer: PreTrainedTokenizerBase, prompts: Iterable[str], targets: Iterable[str]) -> list[Encoded]:
    """Tokenise prompt and target as one text, so that their border is where the tokenizer puts it."""
    prompts, targets = list(prompts), list(targets)
    if not prompts:
        return []
    joined = [f"{prompt} {target}" if target else prompt for prompt, target in zip(prompts, targets, strict=True)]
    batch: Any = tokenizer(joined, add_special_tokens=False, return_offsets_mapping=True)
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    encoded = []
    for prompt, ids, offsets in zip(prompts, batch["input_ids"], batch["offset_mapping"], strict=True):
        border = sum(stop <= len(prompt) for _, stop in offsets)
        encoded.append(Encoded([*start, *ids, *end], len(start) + border, len(start) + len(ids)))
    return encoded


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Tokenise running text, start token first, cut at `max_tokens`."""
    if not len(texts):
        return []
    batch: Any = tokenizer(list(texts), add_special_tokens=False)
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    return [[*start, *ids][:max_tokens] for ids in batch["input_ids"]]


def pad(sequences: Sequence[Sequence[int]], value: int, *, left: bool = False) -> torch.Tensor:
    """Stack sequences of unequal length into one tensor  # (batch, longest)."""
    longest = max(len(sequence) for sequence in sequences)
    rows = []
    for sequence in sequences:
        filling = [value] * (longest - len(sequence))
        rows.append([*filling, *sequence] if left else [*sequence, *filling])
    return torch.tensor(rows)


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Split row numbers into batches of like length, the longest first (so that too large a batch fails at once)."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
