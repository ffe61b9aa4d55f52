from __future__ import annotations

from pathlib import Path

import pytest

from knowtune.checkpoints.base import Base
from knowtune.methods.full import Full
from knowtune.training import curve
from knowtune.training.fit import fit
from tests.unit.helpers import encoded, fact_rows, recipe, train, training


def test_without_a_terminal_steps_and_checkpoints_are_lines(
    base: Base, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(curve, "EVERY", -1)
    train(base, Full(), fact_rows().head(8), work, batch_size=4, save_steps=2)
    lines = capsys.readouterr().err.splitlines()
    steps = [line for line in lines if line.startswith("training: step") or "checkpoint" in line]
    assert steps == [
        "training: step 1 of 2", "training: step 2 of 2", "training: checkpoint at step 2",
    ]  # fmt: skip


def test_steps_are_lines_now_and_then_only(base: Base, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(base, Full(), fact_rows().head(8), work, batch_size=4)
    assert "training: step" not in capsys.readouterr().err


def test_points_of_both_splits_in_the_order_they_were_logged(base: Base, work: Path) -> None:
    model, rows = Full().attach(base.model()), fact_rows()
    settings = training(
        encoded(base, rows.head(8)), work, recipe(epochs=2, batch_size=4), validation=encoded(base, rows.tail(4))
    )
    points = fit(model, settings).curve
    assert [(point["step"], point["split"]) for point in points] == [
        (1, "train"), (2, "train"), (2, "validation"), (3, "train"), (4, "train"), (4, "validation"),
    ]  # fmt: skip
    assert all(isinstance(point["loss"], float) for point in points)
