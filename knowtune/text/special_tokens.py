"""Text to tokens, with control tokens only where they are meant.

A control token is one that the tokenizer calls special: `<s>`, `<|im_end|>`, `[SEP]`. Written in a cell it is text: it
is split into ordinary tokens. What a template writes is meant. Tokens that were added but are not special, as `<think>`
of many chat models, are words of the vocabulary and stay whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from knowtune.text.layout import Range

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Give the special tokens by their numbers."""
    named = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    added: Any = tokenizer.added_tokens_decoder
    return {**{i: str(token) for i, token in added.items() if token.special}, **dict(named)}


def control_pattern(tokenizer: PreTrainedTokenizerBase | None) -> re.Pattern[str]:
    """Make what finds control tokens in a text, the longest first; nothing where there is no tokenizer."""
    known = control_tokens(tokenizer).values() if tokenizer is not None else ()
    names = sorted({name for name in known if name}, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, names)) or "(?!)")


def tokenise(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], meant: Sequence[Sequence[Range]] | None = None
) -> list[tuple[list[int], list[Range]]]:
    """Tokenise texts, without a start or end token.

    Args:
        tokenizer: the base's.
        texts: any.
        meant: for each text the ranges of characters in which control tokens are meant; None: nowhere.

    Returns:
        For each text its tokens, and the range of characters of each.
    """
    given = [()] * len(texts) if meant is None else meant
    tokens: list[tuple[list[int], list[Range]]] = [([], [])] * len(texts)
    control = control_tokens(tokenizer)
    for split in (True, False):
        chosen = [i for i, ranges in enumerate(given) if bool(ranges) is not split]
        if not chosen:
            continue
        batch: Any = tokenizer(
            [texts[i] for i in chosen],
            add_special_tokens=False,
            return_offsets_mapping=True,
            split_special_tokens=split,
            verbose=False,
        )
        for i, ids, offsets in zip(chosen, batch["input_ids"], batch["offset_mapping"], strict=True):
            tokens[i] = (ids, offsets)
            if not control.keys().isdisjoint(ids):
                tokens[i] = _mend(tokenizer, control, texts[i], ids, offsets, given[i])
    return tokens


def _mend(
    tokenizer: PreTrainedTokenizerBase,
    control: dict[int, str],
    text: str,
    ids: list[int],
    offsets: list[Range],
    meant: Sequence[Range],
) -> tuple[list[int], list[Range]]:
    """Replace control tokens that are written in the text, and not meant, by ordinary tokens."""
    tokens: list[int] = []
    ranges: list[Range] = []
    for token, (start, stop) in zip(ids, offsets, strict=True):
        here = [token]
        if token in control and not any(first <= start and stop <= last for first, last in meant):
            written = text[start:stop]
            if written.strip() == control[token]:  # else a letter that the vocabulary has not
                here = ordinary_tokens(tokenizer, written)
        tokens += here
        ranges += [(start, stop)] * len(here)
    return tokens, ranges


def ordinary_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenise a control token's text as it stands amid other text; letter by letter where it is a word by itself."""
    control = control_tokens(tokenizer)
    whole = _amid(tokenizer, control, text)
    if control.keys().isdisjoint(whole):
        return whole
    return [token for letter in text for token in _amid(tokenizer, control, letter)]


def _amid(tokenizer: PreTrainedTokenizerBase, control: dict[int, str], text: str) -> list[int]:
    """Tokenise a piece of a text that has something before it, for some tokenizers put a blank before a text."""
    for before in ("\n", "a", "e"):
        texts: Any = [before, before + text]
        lead, both = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        if control.keys().isdisjoint(lead) and both[: len(lead)] == lead:
            return list(both[len(lead) :])
    alone: Any = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return list(alone)
