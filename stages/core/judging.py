"""Judge one model on the prepared items and texts; the baseline and every evaluation do it alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from knowtune.artefacts import read_rows
from knowtune.contract import ITEMS, TEXTS, check
from knowtune.encoding import encode_rows
from knowtune.errors import UserError
from knowtune.evaluation import judge_rows, read_texts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from stages.core.schema import Params

ITEM_COLUMNS = ["id", "fact", "relation", "kind"]


def judge(
    params: Params,
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    test: Path,
    retention: Path,
    label: str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return per-item (id, fact, relation, kind, correct, loss) and per-text (id, loss, num_tokens) results."""
    settings = params.evaluate
    items = check(read_rows(test), ITEMS, str(test))
    texts = check(read_rows(retention, ["id", "text"]), TEXTS, str(retention))
    lengths = [len(row.input_ids) for row in encode_rows(tokenizer, items["prompt"], items["target"])]
    long = [row_id for row_id, length in zip(items["id"], lengths, strict=True) if length > context]
    if long:
        raise UserError(
            f"{test}: {len(long)} items are longer than the base's context of {context} tokens, e.g. {long[0]!r}"
        )
    judged = judge_rows(model, tokenizer, items, settings.batch_size, f"{label}: items")
    longest = min(settings.max_text_tokens, context)
    read = read_texts(model, tokenizer, texts, settings.batch_size, longest, f"{label}: texts")
    return pd.concat([items[ITEM_COLUMNS], judged], axis=1), pd.concat([texts[["id"]], read], axis=1)
