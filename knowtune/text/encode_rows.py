"""From rows of text to the tokens of a language model: rows to learn, prompts, running text.

A row reads `<s>` + prompt + target + `</s>`, character by character (start and end where the tokenizer has them). The
target and the end token are learned. Where a row has a layout (see `knowtune.text.layout`), what a template wrote after
the target is read and learned in place of the end token, and so are earlier turns of the assistant. Control tokens that
are written in a cell are text. Whether a fact was answered right is judged on the target's tokens alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from knowtune.text.encoded import Encoded
from knowtune.text.layout import PLAIN, Layout, Range
from knowtune.text.special_tokens import tokenise

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase


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
    meant = [layout.control_ranges(len(before), len(t)) for before, (_, t, layout) in zip(befores, rows, strict=True)]
    return [
        _encode(tokenizer, tokens, before, target, layout)
        for tokens, before, (_, target, layout) in zip(tokenise(tokenizer, texts, meant), befores, rows, strict=True)
    ]


def layouts_of(rows: pd.DataFrame) -> list[str] | None:
    """Give the layouts of a table's rows; None where all are plain."""
    return rows["layout"].tolist() if "layout" in rows and rows["layout"].any() else None


def _encode(
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


def _first_after(ranges: Sequence[Range], position: int, before: int) -> int:
    """Return the first of the tokens, up to `before`, that reach beyond a character's position."""
    while before and ranges[before - 1][1] > position:
        before -= 1
    return before


def _first_from(ranges: Sequence[Range], position: int, after: int) -> int:
    """Return the first of the tokens, from `after` on, that begins at a character's position or beyond."""
    while after < len(ranges) and ranges[after][0] < position:
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
    plans = [PLAIN] * len(texts) if layouts is None else [Layout.read(layout).of_prompt() for layout in layouts]
    meant = [plan.control_ranges(len(text), 0) for plan, text in zip(plans, texts, strict=True)]
    read = tokenise(tokenizer, texts, meant)
    return [[*_start(tokenizer, plan, ids), *ids] for plan, (ids, _) in zip(plans, read, strict=True)]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Tokenise running text, start token first, cut at `max_tokens`."""
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    return [[*start, *ids][:max_tokens] for ids, _ in tokenise(tokenizer, texts)]
