from __future__ import annotations

from typing import Any

import pytest
import torch

from knowtune.base import Base
from knowtune.representations.hidden import Hidden
from knowtune.representations.input_embedding import InputEmbedding
from knowtune.semantics import text_distances


def test_the_mean_of_the_tokens_embeddings(base: Base, tokenizer: Any) -> None:
    model = base.model()
    found = InputEmbedding().opened(model, tokenizer)(["Ada lives in Rome", "red", ""])
    for text, vector in zip(["Ada lives in Rome", "red"], found, strict=False):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        expected = model.get_input_embeddings().weight[ids].mean(0)
        assert torch.allclose(vector, expected, atol=1e-6)
    assert (found[2] == 0).all()


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e4])
def test_rescaling_the_embedding_changes_no_distance(scale: float, base: Base, tokenizer: Any) -> None:
    answers, targets = ["Rome", "red hat", "Ada"], ["Oslo", "green", "Bob lives"]
    model = base.model()
    before = text_distances(InputEmbedding().opened(model, tokenizer), answers, targets)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(scale)
    after = text_distances(InputEmbedding().opened(model, tokenizer), answers, targets)
    assert after == pytest.approx(before, abs=1e-6)
    assert min(before) > 0.01


def test_texts_of_the_same_tokens_are_at_no_distance(encoder: Base, words: Any) -> None:
    vectors = InputEmbedding().opened(encoder.model(), words)
    assert text_distances(vectors, ["THE film", "the  film"], ["the film", "The Film"]) == pytest.approx(
        [0, 0], abs=1e-12
    )


def test_special_tokens_alone_are_no_text(base: Base, tokenizer: Any) -> None:
    """A data file might hold the text of a special token."""
    for representation in (InputEmbedding(), Hidden()):
        vectors = representation.opened(base.model(), tokenizer)
        assert text_distances(vectors, ["", tokenizer.eos_token, "red"], ["red"] * 3) == [1.0, 1.0, 0.0]
        assert vectors(["", tokenizer.eos_token]).shape == vectors(["red", "green"]).shape


def test_half_precision(base: Base, tokenizer: Any) -> None:
    exact = InputEmbedding().opened(base.model(), tokenizer)(["Ada lives in Rome"])
    found = InputEmbedding().opened(base.model().to(torch.bfloat16), tokenizer)(["Ada lives in Rome"])
    assert found.dtype == torch.float32
    assert torch.allclose(found, exact, atol=0.02)
