from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from knowtune.checkpoints.base import Base
from knowtune.registry import member_class
from knowtune.semantics.distance import CHUNK, cosine_distance, cut_to_length, text_distances
from knowtune.semantics.representations import REPRESENTATIONS
from knowtune.semantics.representations.base import Representation
from knowtune.semantics.representations.input_embedding import InputEmbedding
from tests.unit.helpers import TASK, equal_states, state

TEXTS = ["red", "green", "Rome", "Oslo", "The hat of Ada is red", "Bob lives in Bern", "", "x y z"]


def opened(name: str, base: Base, encoder: Base, model: Any = None) -> Any:
    """Open a representation; the sentence encoder is the tiny BERT."""
    options = {"path": str(encoder.folder)} if name == "sentence_encoder" else {}
    member: Representation = member_class(REPRESENTATIONS, "representation", name)(**options)
    return member.open(base.model() if model is None else model, base.tokenizer())


class TestCosineDistance:
    def test_by_hand(self) -> None:
        one = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0], [1.0, 1.0]])
        other = torch.tensor([[3.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [1.0, 0.0]])
        assert cosine_distance(one, other).tolist() == pytest.approx([0.0, 1.0, 2.0, 1 - math.sqrt(0.5)], abs=1e-15)

    def test_no_length_is_neither_near_nor_far(self) -> None:
        zeros = torch.zeros(2, 3)
        assert cosine_distance(zeros, torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])).tolist() == [1.0, 1.0]

    def test_symmetric_within_bounds_and_blind_to_scale(self) -> None:
        lot = torch.Generator().manual_seed(0)
        one, other = torch.randn(500, 3, generator=lot), torch.randn(500, 3, generator=lot)
        found = cosine_distance(one, other)
        assert torch.equal(found, cosine_distance(other, one))
        assert 0 <= float(found.min()) < 0.01 < 1.99 < float(found.max()) <= 2
        assert torch.allclose(found, cosine_distance(one * 1e-3, other * 1e4), atol=1e-6)
        assert (cosine_distance(one, one) < 1e-12).all()
        assert (cosine_distance(one, one) >= 0).all()

    def test_no_rows(self) -> None:
        assert cosine_distance(torch.zeros(0, 3), torch.zeros(0, 3)).tolist() == []


class TestTextDistances:
    @staticmethod
    def by_letters(texts: Any) -> torch.Tensor:
        """Say how often a and b stand in each text."""
        return torch.tensor([[text.count("a"), text.count("b")] for text in texts], dtype=torch.float32)

    def test_by_hand(self) -> None:
        found = text_distances(self.by_letters, ["a", "a", "ab", "a", ""], [["b"], ["aa"], ["a"], ["c"], ["a"]])
        assert found == pytest.approx([1.0, 0.0, round(1 - math.sqrt(0.5), 6), 1.0, 1.0], abs=1e-12)

    def test_of_several_right_answers_the_nearest_counts(self) -> None:
        assert text_distances(self.by_letters, ["a", "a"], [["b", "ab", "b"], ["b", "b"]]) == pytest.approx(
            [round(1 - math.sqrt(0.5), 6), 1.0], abs=1e-12
        )

    def test_equal_texts_are_at_no_distance_but_empty_ones_are(self) -> None:
        assert text_distances(self.by_letters, ["ab", "c", ""], [["ab"], ["c"], [""]]) == [0.0, 0.0, 1.0]

    def test_each_text_is_turned_into_a_vector_once(self) -> None:
        seen: list[str] = []

        def vectors(texts: Any) -> torch.Tensor:
            seen.extend(texts)
            return self.by_letters(texts)

        answers = ["a" * (i % 7) for i in range(3 * CHUNK)]
        found = text_distances(vectors, answers, [["b", "aab"]] * len(answers))
        assert sorted(seen) == sorted({*answers, "b", "aab"})
        assert found[:7] == found[7:14]

    def test_many_texts(self) -> None:
        answers = ["a" * (i % 1500) + "b" for i in range(2 * CHUNK)]
        alone = [text_distances(self.by_letters, [a], [["a"]])[0] for a in answers[::97]]
        assert text_distances(self.by_letters, answers, [["a"]] * len(answers))[::97] == alone

    def test_answers_are_cut_for_each_right_answer(self) -> None:
        def cut(answers: Any, rights: Any) -> list[str]:
            return [answer[: len(right)] for answer, right in zip(answers, rights, strict=True)]

        assert text_distances(self.by_letters, ["abbbb"], [["a"]], cut) == [0.0]
        assert text_distances(self.by_letters, ["abbbb"], [["bbbbb", "a"]], cut) == [0.0]

    def test_no_texts(self) -> None:
        assert text_distances(self.by_letters, [], []) == []


class TestCutToLength:
    def test_a_base_that_does_not_stop(self, tokenizer: Any) -> None:
        cut = cut_to_length(tokenizer, 4, ["Rome. It is the", "Rome", "", "Rome and Oslo"], ["Rome"] * 4)
        assert cut == ["Rome", "Rome", "", "Rome"]

    def test_a_word_is_ended_within_bounds(self, tokenizer: Any) -> None:
        long = "Romeqzxvqzxvqzxv"
        tokens = tokenizer.tokenize(long)
        assert cut_to_length(tokenizer, 100, [f"{long} and"], ["Rome"]) == [long]
        count = len(tokenizer.tokenize("Rome"))
        assert cut_to_length(tokenizer, 2, [long], ["Rome"]) == ["".join(tokens[: count + 2])]
        assert cut_to_length(tokenizer, 0, [long], ["Rome"]) == ["".join(tokens[:count])]

    def test_nothing_to_compare_with(self, tokenizer: Any) -> None:
        assert cut_to_length(tokenizer, 3, ["Rome"], [""]) == [""]
        assert cut_to_length(tokenizer, 3, [], []) == []

    def test_a_right_answer_that_goes_on_is_at_no_distance(self, base: Base, tokenizer: Any) -> None:
        vectors = InputEmbedding().open(base.model(), tokenizer)
        found = TASK.evaluator.distances(
            vectors, tokenizer, ["Rome. The hat of", "Oslo", ""], [["Rome"], ["Rome", "Oslo"], ["Rome"]], 4
        )
        assert found == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("name", REPRESENTATIONS)
class TestEveryRepresentation:
    """Laws of the family: what a distance may not depend on."""

    def test_a_vector_each(self, name: str, base: Base, encoder: Base) -> None:
        vectors = opened(name, base, encoder)(TEXTS)
        assert vectors.dtype == torch.float32
        assert vectors.shape[0] == len(TEXTS)
        assert (vectors[6] == 0).all(), "a text without a token has no vector"

    def test_alone_or_among_others(self, name: str, base: Base, encoder: Base) -> None:
        vectors = opened(name, base, encoder)
        whole = vectors(TEXTS)
        for text, vector in zip(TEXTS, whole, strict=True):
            if text:
                assert torch.allclose(vectors([text])[0], vector, atol=1e-5), text

    def test_distances_are_those_of_a_meaning(self, name: str, base: Base, encoder: Base) -> None:
        vectors = opened(name, base, encoder)
        pairs = [(a, b) for a in TEXTS for b in TEXTS]
        there = text_distances(vectors, [a for a, _ in pairs], [[b] for _, b in pairs])
        back = text_distances(vectors, [b for _, b in pairs], [[a] for a, _ in pairs])
        assert there == pytest.approx(back, abs=1e-6)
        assert all(0 <= distance <= 2 for distance in there)
        for (a, b), distance in zip(pairs, there, strict=True):
            assert distance == (1.0 if "" in (a, b) else pytest.approx(0.0) if a == b else distance)

    @pytest.mark.parametrize("training", [False, True])
    def test_the_base_is_left_as_it_is(self, name: str, training: bool, base: Base, encoder: Base) -> None:
        model = base.model().train(training)
        model.model.layers[0].eval()  # type: ignore[operator]
        first = next(model.parameters())
        first.grad, first.requires_grad = torch.ones_like(first), True
        next(model.model.layers.parameters()).requires_grad = False  # type: ignore[operator, union-attr]
        flags = [p.requires_grad for p in model.parameters()]
        modes = [module.training for module in model.modules()]
        weights = state(model)
        torch.manual_seed(5)
        before = torch.get_rng_state()
        opened(name, base, encoder, model)(TEXTS)
        assert torch.equal(torch.get_rng_state(), before)
        assert [module.training for module in model.modules()] == modes
        assert [p.requires_grad for p in model.parameters()] == flags
        assert [p.grad is None for p in model.parameters()] == [i > 0 for i in range(len(flags))]
        assert equal_states(state(model), weights)

    def test_dropout_does_not_touch_it(self, name: str, base: Base, encoder: Base) -> None:
        model = base.model()
        expected = opened(name, base, encoder, model)(TEXTS)
        for layer in model.model.layers:  # type: ignore[union-attr]
            layer.mlp.act_fn = nn.Sequential(layer.mlp.act_fn, nn.Dropout(0.5))  # type: ignore[union-attr]
        assert torch.equal(opened(name, base, encoder, model.train())(TEXTS), expected)

    def test_no_texts_have_no_distances(self, name: str, base: Base, encoder: Base) -> None:
        assert text_distances(opened(name, base, encoder), [], []) == []
