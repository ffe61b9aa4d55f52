from __future__ import annotations

import math
from collections import Counter

import pandas as pd
import pytest

from knowtune.evaluation.sanity_checks import (
    check_answer_lengths,
    check_known_facts,
    check_texts,
    count_known,
    token_entropy,
)


def known(*correct: bool) -> pd.DataFrame:
    """Known facts, beside a new one that is right."""
    return pd.DataFrame({"kind": ["reliability", *["locality"] * len(correct)], "correct": [True, *correct]})


class TestKnown:
    def test_counts(self) -> None:
        assert count_known(known(True, False, True)) == (2, 3)
        assert count_known(known()) is None

    def test_a_base_that_knows_half_is_fine(self) -> None:
        assert check_known_facts(known(True, False)) == []
        assert check_known_facts(known()) == []

    def test_a_base_that_knows_less_than_half(self) -> None:
        assert check_known_facts(known(True, False, False)) == [
            "the base has only 1 of 3 known facts right (33 %): `forgotten` and `locality` look at these 1 alone; give "
            "facts that the base knows"
        ]

    def test_a_base_that_knows_nothing(self) -> None:
        (caution,) = check_known_facts(known(False, False))
        assert caution.endswith("nothing can be forgotten, so that `forgotten` and `locality` have no value")


class TestTexts:
    EVEN = [[0, *range(1, 5)] * 50] * 4  # the start token aside, five tokens equally often

    def test_entropy(self) -> None:
        assert token_entropy(Counter({1: 50, 2: 50})) == pytest.approx(math.log(2) + 1 / 200)
        assert token_entropy(Counter({1: 9})) == 0

    def test_a_base_that_reads_hardly_better_than_frequencies(self) -> None:
        entropy = math.log(5)
        (caution,) = check_texts(0.85 * entropy, self.EVEN, None)
        assert caution.startswith("the general texts are foreign to the base: it reads them with 1.37 nats per token")
        assert "alone give 1.61" in caution
        assert check_texts(2 * entropy, self.EVEN, None) != []

    def test_a_base_that_reads_well(self) -> None:
        assert check_texts(0.7 * math.log(5), self.EVEN, None) == []

    def test_words_that_the_vocabulary_has_not(self) -> None:
        texts = [[9, 3, 3, 1, 2, 4, 5, 6, 7, 8, 9]]  # the first is the start token
        assert check_texts(None, texts, 3) == [
            "the general texts are foreign to the base: 20 % of their tokens are not in its vocabulary; give texts of "
            "the kind that it was trained on (source.text)"
        ]
        assert check_texts(None, texts, 0) == []
        assert check_texts(None, texts, None) == []

    @pytest.mark.parametrize("texts", [[], [[1]], [[]]])
    def test_nothing_to_read(self, texts: list[list[int]]) -> None:
        assert check_texts(None, texts, 0) == []
        assert check_texts(float("nan"), texts, None) == []


def test_answers_that_do_not_fit() -> None:
    assert check_answer_lengths([3, 9, 20], 8) == [
        "2 of 3 right answers have more tokens than answers.max_new_tokens (8), up to 20: models' answers are cut "
        "there, and what reads them sees parts"
    ]
    assert check_answer_lengths([3, 8], 8) == []
    assert check_answer_lengths([], 8) == []
