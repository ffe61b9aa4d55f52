"""From rows of text to tokens: which tokens are read, and which are learned.

A row of a language model reads `<s>` + prompt + target + `</s>`, character by character (start and end where the
tokenizer has them). Labels are -100 on everything but the target and the end token. Whether a fact was answered right
is judged on the target's tokens alone. A row of a classifier reads text and, where there is one, a second text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """One row of a language model as tokens.

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

    @property
    def has_target(self) -> bool:
        """Whether the target has a token of its own."""
        return self.target_end > self.target_start

    @property
    def num_learned(self) -> int:
        """Tokens that training learns from this row."""
        return len(self.input_ids) - max(self.target_start, 1)


@dataclass(frozen=True)
class Labelled:
    """One row of a classifier as tokens.

    Args:
        input_ids: the text's tokens with the special ones, the second text's after them.
        segments: 0 on the first text, 1 on the second; None where the model knows no segments.
        label: the class's number, or the score; NaN where there is none.
        filling: the token that pads a batch; a decoder's head finds the last token by it.
    """

    input_ids: list[int]
    segments: list[int] | None
    label: float
    filling: int = 0

    @property
    def has_target(self) -> bool:
        """Whether there is a label."""
        return self.label == self.label

    @property
    def num_learned(self) -> int:
        """One label, or none."""
        return int(self.has_target)


def encode_rows(tokenizer: PreTrainedTokenizerBase, prompts: Iterable[str], targets: Iterable[str]) -> list[Encoded]:
    """Tokenise prompt and target as one text, so that their border is where the tokenizer puts it.

    Blanks at the prompt's end belong to the target's first token, as most tokenizers have it.
    """
    prompts, targets = list(prompts), list(targets)
    if not prompts:
        return []
    joined = [
        prompt + target if target else prompt.rstrip(" ") for prompt, target in zip(prompts, targets, strict=True)
    ]
    batch: Any = tokenizer(joined, add_special_tokens=False, return_offsets_mapping=True)
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    encoded = []
    for prompt, ids, offsets in zip(prompts, batch["input_ids"], batch["offset_mapping"], strict=True):
        length, border = len(prompt.rstrip(" ")), len(ids)
        while border and offsets[border - 1][1] > length:
            border -= 1
        encoded.append(Encoded([*start, *ids, *end], len(start) + border, len(start) + len(ids)))
    return encoded


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Tokenise running text, start token first, cut at `max_tokens`."""
    if not len(texts):
        return []
    batch: Any = tokenizer(list(texts), add_special_tokens=False)
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    return [[*start, *ids][:max_tokens] for ids in batch["input_ids"]]


def encode_wrapped(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int | None = None
) -> tuple[list[list[int]], list[list[int]]]:
    """Tokenise texts with all their special tokens, a start token where the tokenizer has one.

    Returns:
        Tokens of each text; and for each of them 1 where it is the text's own, 0 where it is special.
    """
    batch: Any = tokenizer(list(texts), truncation=max_tokens is not None, max_length=max_tokens)
    start, special = tokenizer.bos_token_id, set(tokenizer.all_special_ids)
    ids = [[start, *row] if start is not None and row[:1] != [start] else row for row in batch["input_ids"]]
    own = [[int(token not in special) for token in row] for row in ids]
    return ids, own


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str],
    labels: Sequence[float],
    max_tokens: int | None = None,
) -> list[Labelled]:
    """Tokenise a classifier's rows, with the tokenizer's own special tokens.

    Args:
        tokenizer: the base's.
        texts: one per row.
        pairs: the second texts; none where all are "" or the sequence is empty.
        labels: numbers.
        max_tokens: where texts are cut; None for nowhere.
    """
    if not len(texts):
        return []
    given = (list(texts), list(pairs)) if any(pairs) else (list(texts),)
    batch: Any = tokenizer(*given, truncation=max_tokens is not None, max_length=max_tokens)
    segments = batch["token_type_ids"] if "token_type_ids" in batch else [None] * len(texts)
    filling = int(tokenizer.pad_token_id or 0)
    return [
        Labelled(ids, segment, label, filling)
        for ids, segment, label in zip(batch["input_ids"], segments, labels, strict=True)
    ]


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each next token, 0 where it is not learned or there is none  # (batch, seq).

    Prompt-learning methods may put virtual tokens first; the logits are aligned at their end. The labels are shifted,
    not the logits: a slice of the logits would be filled with zeros and copied in the backward pass.
    """
    if logits.shape[1] != labels.shape[1]:
        logits = logits[:, -labels.shape[1] :]  # (batch, seq, vocabulary)
    following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    losses = cross_entropy(logits.float().flatten(0, 1), following.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.view(labels.shape)


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
