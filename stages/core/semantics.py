"""From params to the library's objects: how texts are compared in meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowtune.registry import member_class
from knowtune.semantics.representations import REPRESENTATIONS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from knowtune.semantics.distance import Vectors
    from knowtune.semantics.representations.base import Representation
    from stages.core.schema import Params


def representation_of(params: Params) -> Representation:
    """Make the representation from its name and options; one that reads a model of its own gets its path."""
    settings = params.semantics
    member = member_class(REPRESENTATIONS, "representation", settings.representation)
    path = {"path": settings.path} if "path" in member.model_fields else {}
    representation: Representation = member(**path, **settings.options)
    return representation


def vectors_of(params: Params, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Vectors:
    """Open the representation by which texts are compared, on the pristine base."""
    vectors: Vectors = representation_of(params).open(model, tokenizer)
    return vectors
