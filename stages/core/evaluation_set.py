"""From params and files to the library's objects: what models are evaluated on, and how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from knowtune.common.files import read_rows
from knowtune.data.contract import EXAMPLES, TEXTS, check
from knowtune.evaluation.evaluate import EvaluationSet
from knowtune.tasks.answers import Decoding

if TYPE_CHECKING:
    from stages.core.schema import Params


def read_evaluation_set(params: Params, test: Path, retention: Path) -> EvaluationSet:
    """Read evaluation examples and general texts.

    Args:
        params: of the whole pipeline.
        test: the examples' file.
        retention: the texts' file.
    """
    settings = params.evaluate
    return EvaluationSet(
        examples=check(read_rows(test), EXAMPLES, str(test)),
        texts=check(read_rows(retention, ["id", "text"]), TEXTS, str(retention)),
        metrics=settings.metrics,
        decoding=Decoding(settings.batch_size, params.answers.max_new_tokens, params.answers.extra_tokens),
        max_text_tokens=settings.max_text_tokens,
    )
