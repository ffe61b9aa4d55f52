"""Judge one model on the prepared items and texts; the baseline and every evaluation do it alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from knowtune.common.files import read_rows
from knowtune.data.contract import ITEMS, TEXTS, check
from knowtune.evaluation.leaderboard import Results, reads_whole_answers
from knowtune.tasks.answers import answered

if TYPE_CHECKING:
    import torch

    from knowtune.checkpoints.base import Base
    from knowtune.semantics.distance import Vectors
    from stages.core.schema import Params

ITEM_COLUMNS = ["id", "fact", "relation", "kind", "target", "aliases"]


def judge(
    params: Params,
    model: torch.nn.Module,
    base: Base,
    test: Path,
    retention: Path,
    vectors: Vectors | None,
    label: str,
) -> Results:
    """Judge the items, and read the texts.

    Args:
        params: of the whole pipeline.
        model: the model to judge.
        base: whose tokenizer and task it has.
        test: the items' file.
        retention: the texts' file.
        vectors: of the pristine base, to measure the answers by; None where no metric reads answers.
        label: what progress bars say.
    """
    settings, tokenizer = params.evaluate, base.tokenizer()
    items = check(read_rows(test), ITEMS, str(test))
    texts = check(read_rows(retention, ["id", "text"]), TEXTS, str(retention))
    judged = base.task.judge(model, tokenizer, items, settings.batch_size, f"{label}: items")
    said = judged.get("predicted", judged.get("said"))  # a classifier's words are its predictions
    judged = judged.drop(columns="said", errors="ignore")
    if vectors is not None:
        found = answered(
            base.task,
            model,
            tokenizer,
            items,
            vectors,
            batch_size=settings.batch_size,
            max_new_tokens=params.answers.max_new_tokens,
            extra_tokens=params.answers.extra_tokens,
            label=f"{label}: answers",
            said=said,
            whole=reads_whole_answers(settings.metrics),
        )
        judged = pd.concat([judged, found], axis=1)
    longest = min(settings.max_text_tokens, base.context)
    read, states = base.task.read_texts(
        model, tokenizer, texts["text"].tolist(), settings.batch_size, longest, f"{label}: texts"
    )
    return Results(pd.concat([items[ITEM_COLUMNS], judged], axis=1), pd.concat([texts[["id"]], read], axis=1), states)
