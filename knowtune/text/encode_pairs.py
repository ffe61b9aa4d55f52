"""From texts, or pairs of them, to tokens with the tokenizer's own special tokens around them: for encoders and heads.

A classifier's row reads a text and, where there is one, a second text. Control tokens that are written in a text are
text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from knowtune.text.encoded import Labelled
from knowtune.text.layout import Layout, Range
from knowtune.text.special_tokens import control_tokens, ordinary_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_wrapped(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int | None = None
) -> tuple[list[list[int]], list[list[int]]]:
    """Tokenise texts with all their special tokens, a start token where the tokenizer has one.

    Returns:
        Tokens of each text; and for each of them 1 where it is the text's own, 0 where it is special.
    """
    start, special = tokenizer.bos_token_id, set(tokenizer.all_special_ids)
    read = [ids for ids, _ in _tokenise_wrapped(tokenizer, texts, [], max_tokens)]
    ids = [[start, *row] if start is not None and row[:1] != [start] else row for row in read]
    own = [[int(token not in special) for token in row] for row in ids]
    return ids, own


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str],
    labels: Sequence[float],
    max_tokens: int | None = None,
    layouts: Sequence[str] | None = None,
) -> list[Labelled]:
    """Tokenise a classifier's rows, with the tokenizer's own special tokens.

    Args:
        tokenizer: the base's.
        texts: one per row.
        pairs: the second texts; none where all are "" or the sequence is empty.
        labels: numbers.
        max_tokens: where texts are cut; None for nowhere.
        layouts: one per row: where in its text control tokens are meant; None: nowhere.
    """
    if not len(texts):
        return []
    filling = int(tokenizer.pad_token_id or 0)
    return [
        Labelled(ids, segments, label, filling)
        for (ids, segments), label in zip(
            _tokenise_wrapped(tokenizer, texts, pairs, max_tokens, layouts), labels, strict=True
        )
    ]


def _tokenise_wrapped(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str],
    max_tokens: int | None,
    layouts: Sequence[str] | None = None,
) -> list[tuple[list[int], list[int] | None]]:
    """Tokenise texts, or pairs of them, with the tokenizer's own special tokens around them, within where meant.

    Returns:
        Tokens and segments of each; no segments where the tokenizer makes none.
    """
    given = (list(texts), list(pairs)) if any(pairs) else (list(texts),)
    meant = [()] * len(texts) if layouts is None else [Layout.read(layout).markup for layout in layouts]
    rows: list[tuple[list[int], list[int] | None]] = [([], None)] * len(texts)
    control = control_tokens(tokenizer)
    for split in (True, False):
        chosen = [i for i, ranges in enumerate(meant) if bool(ranges) is not split]
        if not chosen:
            continue
        batch: Any = tokenizer(
            *([side[i] for i in chosen] for side in given),
            truncation=max_tokens is not None,
            max_length=max_tokens,
            split_special_tokens=split,
            return_special_tokens_mask=True,
            return_offsets_mapping=tokenizer.is_fast,
            verbose=False,
        )
        for at, i in enumerate(chosen):
            stray: dict[int, list[int]] = {}
            if tokenizer.is_fast and not control.keys().isdisjoint(batch["input_ids"][at]):
                stray = _stray(tokenizer, control, batch, at, [side[i] for side in given], meant[i])
            ids = batch["input_ids"][at]
            parts = [stray.get(position, [token]) for position, token in enumerate(ids)]
            segments = batch["token_type_ids"][at] if "token_type_ids" in batch else [0] * len(ids)
            sides = [side for side, part in zip(segments, parts, strict=True) for _ in part][:max_tokens]
            rows[i] = [t for part in parts for t in part][:max_tokens], sides if "token_type_ids" in batch else None
    return rows


def _stray(
    tokenizer: PreTrainedTokenizerBase,
    control: dict[int, str],
    batch: Any,
    at: int,
    texts: Sequence[str],
    meant: Sequence[Range],
) -> dict[int, list[int]]:
    """Find control tokens that a text only writes; give the ordinary tokens that are read instead, by position."""
    around, sides = batch["special_tokens_mask"][at], batch.encodings[at].sequence_ids
    mended = {}
    for position, token in enumerate(batch["input_ids"][at]):
        if around[position] or token not in control:
            continue
        side, (start, stop) = sides[position] or 0, batch["offset_mapping"][at][position]
        written = texts[side][start:stop]
        wanted = side == 0 and any(first <= start and stop <= last for first, last in meant)
        if not wanted and written.strip() == control[token]:
            mended[position] = ordinary_tokens(tokenizer, written)
    return mended
