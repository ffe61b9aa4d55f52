from __future__ import annotations

from typing import Any

import torch

from knowtune.checkpoints.base import Base
from knowtune.semantics.representations.hidden import Hidden

TEXTS = ["red", "Ada lives in Rome and Bob in Oslo", "The hat"]


def test_a_causal_model_read_by_hand(base: Base, tokenizer: Any) -> None:
    model = base.model()
    found = Hidden(batch_size=2).open(model, tokenizer)(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
        assert torch.allclose(vector, states[1:].mean(0), atol=1e-5), "the start token is read but does not count"


def test_an_encoder_read_by_hand(encoder: Base, words: Any) -> None:
    model = encoder.model()
    texts = ["the film was good", "bad", "very long and dull and poor ."]
    found = Hidden().open(model, words)(texts)
    for text, vector in zip(texts, found, strict=True):
        with torch.no_grad():
            states = model(**words(text, return_tensors="pt"), output_hidden_states=True).hidden_states[-1][0]
        assert torch.allclose(vector, states[1:-1].mean(0), atol=1e-5)


def test_nothing_but_empty_texts(base: Base, tokenizer: Any) -> None:
    found = Hidden().open(base.model(), tokenizer)(["", ""])
    assert found.shape[0] == 2
    assert (found == 0).all()


def test_batches_do_not_matter(base: Base, tokenizer: Any) -> None:
    model, texts = base.model(), ["red " * n for n in range(1, 12)]
    one, many = (Hidden(batch_size=size).open(model, tokenizer)(texts) for size in (1, 32))
    assert torch.allclose(one, many, atol=1e-5)
