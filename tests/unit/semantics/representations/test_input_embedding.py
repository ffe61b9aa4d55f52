from __future__ import annotations

from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.semantics.distance import text_distances
from knowtune.semantics.representations.hidden import Hidden
from knowtune.semantics.representations.input_embedding import InputEmbedding


def test_the_mean_of_the_tokens_embeddings(base: Base, tokenizer: Any) -> None:
    model = base.model()
    found = InputEmbedding().open(model, tokenizer)(["Ada lives in Rome", "red", ""])
    for text, vector in zip(["Ada lives in Rome", "red"], found, strict=False):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        expected = model.get_input_embeddings().weight[ids].mean(0)
        assert torch.allclose(vector, expected, atol=1e-6)
    assert (found[2] == 0).all()


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e4])
def test_rescaling_the_embedding_changes_no_distance(scale: float, base: Base, tokenizer: Any) -> None:
    answers, targets = ["Rome", "red hat", "Ada"], [["Oslo"], ["green"], ["Bob lives"]]
    model = base.model()
    before = text_distances(InputEmbedding().open(model, tokenizer), answers, targets)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(scale)
    after = text_distances(InputEmbedding().open(model, tokenizer), answers, targets)
    assert after == pytest.approx(before, abs=1e-6)
    assert min(before) > 0.01


def test_texts_of_the_same_tokens_are_at_no_distance(encoder: Base, words: Any) -> None:
    vectors = InputEmbedding().open(encoder.model(), words)
    assert text_distances(vectors, ["THE film", "the  film"], [["the film"], ["The Film"]]) == pytest.approx(
        [0, 0], abs=1e-12
    )


def test_special_tokens_that_are_written_out_are_text(base: Base, tokenizer: Any) -> None:
    end = tokenizer.eos_token
    for representation in (InputEmbedding(), Hidden()):
        vectors = representation.open(base.model(), tokenizer)
        found = text_distances(vectors, ["", end, end, "red"], [["red"], [end], ["red"], ["red"]])
        assert (found[0], found[1], found[3]) == (1.0, 0.0, 0.0)
        assert 0 < found[2] != 1.0
        assert vectors(["", end]).shape == vectors(["red", "green"]).shape
