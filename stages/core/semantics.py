"""From params to the library's objects: how texts are compared in meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowtune.families import member_class
from knowtune.representations import REPRESENTATIONS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from knowtune.semantics import Vectors
    from stages.core.schema import Params


def vectors_of(params: Params, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Vectors:
    """Open the representation by which texts are compared, on the pristine base."""
    settings = params.semantics
    kind = member_class(REPRESENTATIONS, "representation", settings.representation)
    vectors: Vectors = kind(**settings.options).opened(model, tokenizer)
    return vectors
