from __future__ import annotations

import torch

from knowtune.merging.mixtures.average import Average


def test_the_weighted_sum() -> None:
    one, two = torch.tensor([[1.0, -2.0], [0.0, 4.0]]), torch.tensor([[3.0, 2.0], [8.0, 0.0]])
    found = Average().combine([one, two], torch.tensor([0.75, 0.25]), 0)
    assert found.tolist() == [[1.5, -1.0], [2.0, 3.0]]
