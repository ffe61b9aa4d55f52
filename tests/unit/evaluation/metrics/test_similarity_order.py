from __future__ import annotations

from dataclasses import replace

import pytest

from knowtune.evaluation.metrics.similarity_order import SimilarityOrder
from tests.unit.evaluation.metrics.tables import CLASSIFICATION, KNOWLEDGE, STATES, emptied, turned


def test_by_hand() -> None:
    # the pairs 01, 02, 12 are 30, 90, 60 degrees apart to the base, and 60, 90, 30 now: ranks 1 3 2 and 2 3 1
    assert SimilarityOrder().compute(CLASSIFICATION) == pytest.approx(1 - 6 * (1 + 0 + 1) / (3 * (9 - 1)))


def test_against_itself_it_is_one() -> None:
    assert SimilarityOrder().compute(replace(CLASSIFICATION, base_states=STATES)) == pytest.approx(1)


def test_a_turn_of_all_states_changes_nothing() -> None:
    rotated = replace(CLASSIFICATION, states=turned(100, 160, 190), base_states=turned(0, 60, 90))
    assert SimilarityOrder().compute(rotated) == pytest.approx(1)


def test_none_where_all_are_equally_alike() -> None:
    assert SimilarityOrder().compute(replace(CLASSIFICATION, states=turned(20, 20, 20))) is None


def test_none_of_fewer_than_three() -> None:
    assert SimilarityOrder().compute(KNOWLEDGE) is None
    assert SimilarityOrder().compute(emptied(CLASSIFICATION)) is None
    two = replace(CLASSIFICATION, states=STATES[:2], base_states=STATES[:2])
    assert SimilarityOrder().compute(two) is None
