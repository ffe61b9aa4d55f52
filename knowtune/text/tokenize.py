"""From rows of text to tokens: which tokens are read, and which are learned.

A row of a language model reads `<s>` + prompt + target + `</s>`, character by character (start and end where the
tokenizer has them). Labels are -100 on everything but the target and the end token. Where a row has a layout (see
`knowtune.text.layout`), what a template wrote after the target is read and learned in place of the end token, and
earlier
turns of the assistant are learned as well. Control tokens that are written in a cell are text. Whether a fact was
answered right is judged on the target's tokens alone. A row of a classifier reads text and, where there is one, a
second text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knowtune.text.layout import PLAIN, Layout, Range
from knowtune.text.special_tokens import control_tokens, ordinary_tokens, tokenise

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase
from knowtune.text.batches import IGNORED


@dataclass(frozen=True)
class Encoded:
    """One row of a language model as tokens.

    Args:
        input_ids: start token, prompt, target, end token or ending.
        target_start: index of the target's first token.
        target_end: index after the target's last token; the end token or the ending's first one, where there is one,
            stands here.
        turns: ranges of the prompt's tokens that are learned too.
    """

    input_ids: list[int]
    target_start: int
    target_end: int
    turns: tuple[Range, ...] = ()

    @property
    def labels(self) -> list[int]:
        """Labels for training: -100 on the prompt but its learned turns, the ids of target and ending after it."""
        labels = [IGNORED] * self.target_start + self.input_ids[self.target_start :]
        for start, stop in self.turns:
            labels[start:stop] = self.input_ids[start:stop]
        return labels

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
        earlier = sum(stop - max(start, 1) for start, stop in self.turns)  # nothing stands before the first token
        return len(self.input_ids) - max(self.target_start, 1) + earlier


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


def encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Iterable[str],
    targets: Iterable[str],
    layouts: Iterable[str] | None = None,
) -> list[Encoded]:
    """Tokenise prompt, target and ending as one text, so that their border is where the tokenizer puts it.

    Blanks at the prompt's end belong to the target's first token, as most tokenizers have it.

    Args:
        tokenizer: the base's.
        prompts: one per row.
        targets: one per row.
        layouts: one per row, see `knowtune.text.layout`; None: all rows are plain.
    """
    prompts = list(prompts)
    plans = [PLAIN] * len(prompts) if layouts is None else map(Layout.read, layouts)
    rows = list(zip(prompts, targets, plans, strict=True))
    befores = [prompt if target else prompt.rstrip(" ") for prompt, target, _ in rows]
    texts = [before + target + layout.ending for before, (_, target, layout) in zip(befores, rows, strict=True)]
    meant = [layout.meant(len(before), len(t)) for before, (_, t, layout) in zip(befores, rows, strict=True)]
    return [
        _encoded(tokenizer, tokens, before, target, layout)
        for tokens, before, (_, target, layout) in zip(tokenise(tokenizer, texts, meant), befores, rows, strict=True)
    ]


def layouts_of(rows: pd.DataFrame) -> list[str] | None:
    """Give the layouts of a table's rows; None where all are plain."""
    return rows["layout"].tolist() if "layout" in rows and rows["layout"].any() else None


def _encoded(
    tokenizer: PreTrainedTokenizerBase, tokens: tuple[list[int], list[Range]], before: str, target: str, layout: Layout
) -> Encoded:
    """Find the target and the learned turns among a row's tokens."""
    ids, ranges = tokens
    start = _start(tokenizer, layout, ids)
    border = _first_after(ranges, len(before.rstrip(" ")), len(ids))
    last = len(ids)
    if layout.ending:
        last = _first_from(ranges, len(before) + len(target), border)
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None and not layout.ending else []
    turns = []
    for first, stop in layout.turns:
        begun = _first_after(ranges, len(before[:first].rstrip(" ")), border)
        turns.append((len(start) + begun, len(start) + min(_first_from(ranges, stop, begun), border)))
    learned = tuple((first, stop) for first, stop in turns if first < stop)
    return Encoded([*start, *ids, *end], len(start) + border, len(start) + last, learned)


def _first_after(ranges: Sequence[Range], place: int, before: int) -> int:
    """Return the first of the tokens, up to `before`, that reach beyond a character's place."""
    while before and ranges[before - 1][1] > place:
        before -= 1
    return before


def _first_from(ranges: Sequence[Range], place: int, after: int) -> int:
    """Return the first of the tokens, from `after` on, that begins at a character's place or beyond."""
    while after < len(ranges) and ranges[after][0] < place:
        after += 1
    return after


def _start(tokenizer: PreTrainedTokenizerBase, layout: Layout, ids: Sequence[int]) -> list[int]:
    """Give the start token where there is one, unless the row's template has written it or means none."""
    start = tokenizer.bos_token_id
    if start is None or not layout.start or (layout.markup and list(ids[:1]) == [start]):
        return []
    return [start]


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], layouts: Sequence[str] | None = None
) -> list[list[int]]:
    """Tokenise what a model is asked: start token and prompt, without the blanks at its end."""
    texts = [prompt.rstrip(" ") for prompt in prompts]
    plans = [PLAIN] * len(texts) if layouts is None else [Layout.read(layout).asked() for layout in layouts]
    meant = [plan.meant(len(text), 0) for plan, text in zip(plans, texts, strict=True)]
    read = tokenise(tokenizer, texts, meant)
    return [[*_start(tokenizer, plan, ids), *ids] for plan, (ids, _) in zip(plans, read, strict=True)]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Tokenise running text, start token first, cut at `max_tokens`."""
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    return [[*start, *ids][:max_tokens] for ids, _ in tokenise(tokenizer, texts)]


def encode_wrapped(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int | None = None
) -> tuple[list[list[int]], list[list[int]]]:
    """Tokenise texts with all their special tokens, a start token where the tokenizer has one.

    Returns:
        Tokens of each text; and for each of them 1 where it is the text's own, 0 where it is special.
    """
    start, special = tokenizer.bos_token_id, set(tokenizer.all_special_ids)
    read = [ids for ids, _ in _wrapped(tokenizer, texts, [], max_tokens)]
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
        for (ids, segments), label in zip(_wrapped(tokenizer, texts, pairs, max_tokens, layouts), labels, strict=True)
    ]


def _wrapped(
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
    found: list[tuple[list[int], list[int] | None]] = [([], None)] * len(texts)
    control = control_tokens(tokenizer)
    for split in (True, False):
        places = [i for i, ranges in enumerate(meant) if bool(ranges) is not split]
        if not places:
            continue
        batch: Any = tokenizer(
            *([side[i] for i in places] for side in given),
            truncation=max_tokens is not None,
            max_length=max_tokens,
            split_special_tokens=split,
            return_special_tokens_mask=True,
            return_offsets_mapping=tokenizer.is_fast,
            verbose=False,
        )
        for at, i in enumerate(places):
            stray: dict[int, list[int]] = {}
            if tokenizer.is_fast and not control.keys().isdisjoint(batch["input_ids"][at]):
                stray = _stray(tokenizer, control, batch, at, [side[i] for side in given], meant[i])
            ids = batch["input_ids"][at]
            parts = [stray.get(place, [token]) for place, token in enumerate(ids)]
            segments = batch["token_type_ids"][at] if "token_type_ids" in batch else [0] * len(ids)
            sides = [side for side, part in zip(segments, parts, strict=True) for _ in part][:max_tokens]
            found[i] = [t for part in parts for t in part][:max_tokens], sides if "token_type_ids" in batch else None
    return found


def _stray(
    tokenizer: PreTrainedTokenizerBase,
    control: dict[int, str],
    batch: Any,
    at: int,
    texts: Sequence[str],
    meant: Sequence[Range],
) -> dict[int, list[int]]:
    """Find control tokens that a text only writes; give what is read in their places."""
    control, around, sides = (
        control_tokens(tokenizer),
        batch["special_tokens_mask"][at],
        batch.encodings[at].sequence_ids,
    )
    found = {}
    for place, token in enumerate(batch["input_ids"][at]):
        if around[place] or token not in control:
            continue
        side, (start, stop) = sides[place] or 0, batch["offset_mapping"][at][place]
        written = texts[side][start:stop]
        wanted = side == 0 and any(first <= start and stop <= last for first, last in meant)
        if not wanted and written.strip() == control[token]:
            found[place] = ordinary_tokens(tokenizer, written)
    return found
