"""Judge one model on the prepared items and texts; the baseline and every evaluation do it alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from knowtune.common.files import read_rows
from knowtune.data.contract import ITEMS, TEXTS, check
from knowtune.evaluation.leaderboard import Results, reads_whole_answers
from knowtune.tasks.answers import Decoding, answer_distances, answer_rows

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
    judged = base.task.evaluator.judge(model, tokenizer, items, settings.batch_size, f"{label}: items")
    known = judged.get("predicted", judged.get("answer"))  # a classifier answers with its prediction
    judged = judged.drop(columns="answer", errors="ignore")
    if vectors is not None:
        decoding = Decoding(settings.batch_size, params.answers.max_new_tokens, params.answers.extra_tokens)
        whole = reads_whole_answers(settings.metrics)
        answers = answer_rows(
            base.task.evaluator, model, tokenizer, items, decoding, f"{label}: answers", known=known, whole=whole
        )
        distances = answer_distances(base.task.evaluator, tokenizer, items, answers, vectors, decoding)
        judged = judged.assign(answer=answers, distance=distances)
    longest = min(settings.max_text_tokens, base.context)
    read, states = base.task.evaluator.read_texts(
        model, tokenizer, texts["text"].tolist(), settings.batch_size, longest, f"{label}: texts"
    )
    return Results(pd.concat([items[ITEM_COLUMNS], judged], axis=1), pd.concat([texts[["id"]], read], axis=1), states)
