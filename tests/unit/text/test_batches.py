from __future__ import annotations

import math

import pytest
import torch

from knowtune.text.batches import batches_by_length, num_read, pad, token_losses


def test_pad() -> None:
    assert pad([[1, 2, 3], [4]], 0).tolist() == [[1, 2, 3], [4, 0, 0]]
    assert pad([[1, 2, 3], [4]], -100, left=True).tolist() == [[1, 2, 3], [-100, -100, 4]]


def test_batches_are_of_like_length_the_longest_first() -> None:
    assert batches_by_length([3, 9, 3, 5, 9], 2) == [[1, 4], [3, 0], [2]]
    assert batches_by_length([], 2) == []


def test_token_losses_by_hand() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]]]))
    losses = token_losses(logits, torch.tensor([[0, 1, 2]]))
    assert losses.tolist() == [pytest.approx([math.log(4), -math.log(0.6), 0.0], rel=1e-6)]


def test_a_token_that_is_not_learned_costs_nothing() -> None:
    logits = torch.randn(1, 4, 5)
    assert token_losses(logits, torch.tensor([[1, -100, -100, -100]])).tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_virtual_tokens_in_front_are_left_out() -> None:
    logits, labels = torch.randn(2, 7, 5), torch.tensor([[-100, 1, 2], [3, 4, -100]])
    assert torch.equal(token_losses(logits, labels), token_losses(logits[:, 4:], labels))


@pytest.mark.parametrize(
    ("labels", "num"),
    [
        ([[-100, -100, 5, 6], [-100, -100, -100, 7]], 3),  # the second position predicts the first learned token
        ([[-100, -100, -100, 7]], 2),
        ([[-100, 5, -100, -100]], 0),  # the first position is read, so all are
        ([[3, 4, 5]], 0),
        ([[3, -100, -100, 4]], 2),  # nothing stands before the first token
        ([[-100, -100, -100]], 0),
        ([[3]], 0),
    ],
)
def test_how_many_positions_are_read(labels: list[list[int]], num: int) -> None:
    assert num_read(torch.tensor(labels)) == num


def test_the_logits_of_the_positions_that_are_read_are_enough() -> None:
    logits, labels = torch.randn(2, 6, 5), torch.tensor([[-100, -100, -100, 1, 2, 3], [-100, -100, 4, 0, -100, -100]])
    assert num_read(labels) == 5
    for num in (5, 6):
        assert torch.equal(token_losses(logits[:, -num:], labels), token_losses(logits, labels))
    assert token_losses(logits[:, -5:], labels).shape == labels.shape
    assert not torch.equal(token_losses(logits[:, -4:], labels), token_losses(logits, labels))
