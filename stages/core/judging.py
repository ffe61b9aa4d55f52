"""Judge one model on the prepared items and texts; the baseline and every evaluation do it alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from knowtune.artefacts import read_rows
from knowtune.contract import ITEMS, TEXTS, check
from knowtune.leaderboard import Results

if TYPE_CHECKING:
    import torch

    from knowtune.base import Base
    from stages.core.schema import Params

ITEM_COLUMNS = ["id", "fact", "relation", "kind", "target"]


def judge(params: Params, model: torch.nn.Module, base: Base, test: Path, retention: Path, label: str) -> Results:
    """Judge the items, and read the texts."""
    settings, tokenizer = params.evaluate, base.tokenizer()
    items = check(read_rows(test), ITEMS, str(test))
    texts = check(read_rows(retention, ["id", "text"]), TEXTS, str(retention))
    judged = base.task.judge(model, tokenizer, items, settings.batch_size, f"{label}: items")
    longest = min(settings.max_text_tokens, base.context)
    read, states = base.task.read_texts(
        model, tokenizer, texts["text"].tolist(), settings.batch_size, longest, f"{label}: texts"
    )
    return Results(pd.concat([items[ITEM_COLUMNS], judged], axis=1), pd.concat([texts[["id"]], read], axis=1), states)
