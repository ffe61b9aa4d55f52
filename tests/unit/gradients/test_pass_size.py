"""How much shares a pass, and that nothing depends on it."""

from __future__ import annotations

from typing import Any

import torch

from knowtune.checkpoints.base import Base
from knowtune.gradients import pass_size
from tests.unit.gradients.definition import assert_equal, diagonal
from tests.unit.helpers import counted_calls, encoded, fact_rows


def test_a_pass_is_as_large_as_the_weights_have_room_for(base: Base, monkeypatch: Any) -> None:
    model, rows = base.model(), encoded(base, fact_rows()).rows
    matrices = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    width = sum(sum(weight.shape) for weight in matrices)
    monkeypatch.setattr(pass_size, "MIN_TOKENS_CPU", 1)
    monkeypatch.setattr(pass_size, "MIN_TOKENS_GPU", 1)
    assert pass_size.tokens_per_pass(model) == max(1, sum(p.numel() for p in model.parameters()) // (2 * width))
    expected = diagonal(base, rows, batch_size=32)
    monkeypatch.setattr(pass_size, "MIN_TOKENS_CPU", 3 * max(len(row.input_ids) for row in rows))
    with counted_calls(torch.nn.Embedding, "forward", 0, AssertionError()) as calls:
        assert_equal(diagonal(base, rows, model, batch_size=32), {n: v.double() for n, v in expected.items()})
    assert calls[0] == 3 + -(-len(rows) // 3)  # the check: two rows as one batch, and one by one
