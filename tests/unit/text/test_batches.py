from __future__ import annotations

from knowtune.text.batches import batches_by_length, pad


def test_pad() -> None:
    assert pad([[1, 2, 3], [4]], 0).tolist() == [[1, 2, 3], [4, 0, 0]]
    assert pad([[1, 2, 3], [4]], -100, left=True).tolist() == [[1, 2, 3], [-100, -100, 4]]


def test_batches_are_of_like_length_the_longest_first() -> None:
    assert batches_by_length([3, 9, 3, 5, 9], 2) == [[1, 4], [3, 0], [2]]
    assert batches_by_length([], 2) == []
