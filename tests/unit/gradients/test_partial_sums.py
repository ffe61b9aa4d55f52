"""An interrupted scoring goes on to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.gradients import scorer as scoring
from knowtune.gradients.fisher import parameters_in, row_traces
from knowtune.gradients.options import Scoring
from tests.unit.gradients.definition import diagonal
from tests.unit.helpers import TASK, counted_calls, encoded, fact_rows


def test_a_resumed_scoring_gives_the_same_bits(base: Base, tmp_path: Path, monkeypatch: Any) -> None:

    monkeypatch.setattr(scoring, "SAVE_SECONDS", -1.0)
    whole = diagonal(base, batch_size=4)
    with counted_calls(scoring.Scorer, "_add", 6, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        diagonal(base, batch_size=4, work=tmp_path / "work")
    with counted_calls(scoring.Scorer, "_add", 99, KeyboardInterrupt()) as calls:
        resumed = diagonal(base, batch_size=4, work=tmp_path / "work")
    assert calls[0] == 2 + 6 - 3  # the check takes two; three of six batches were saved
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_finished_one_is_not_done_again(base: Base, tmp_path: Path) -> None:

    rows, model = encoded(base, fact_rows()).rows, base.model()
    options = {"work": tmp_path / "work"}
    first = row_traces(model, rows, TASK, parameters_in(model), Scoring(), **options)
    with counted_calls(scoring.Scorer, "_add", 99, KeyboardInterrupt()) as calls:
        assert torch.equal(row_traces(model, rows, TASK, parameters_in(model), Scoring(), **options), first)
    assert calls[0] == 2


def test_a_broken_partial_result(base: Base, tmp_path: Path) -> None:
    diagonal(base, work=tmp_path)
    (found,) = tmp_path.iterdir()
    found.write_bytes(found.read_bytes()[:100])
    with pytest.raises(
        UserError, match=r"partial-0-of-1: not readable \(.*\); remove it, and the scoring starts again"
    ):
        diagonal(base, work=tmp_path)
