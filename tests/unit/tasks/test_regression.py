from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from knowtune.tasks.regression import Regression
from knowtune.text.cells import Number, preview
from knowtune.text.encoded import Labelled

TASK = Regression()


@pytest.mark.parametrize(
    ("cell", "target"),
    [
        (3, "3"),
        (2.5, "2.5"),
        (" 4.20 ", "4.2"),
        (0, "0"),
        (-1e-9, "-1e-09"),
        (1 / 3, "0.3333333333333333"),
        ("1e3", "1000"),
        (1234567.5, "1234567.5"),
        (Number("1.10"), "1.1"),
        ("+.5", "0.5"),
        ("3.", "3"),
    ],
)
def test_a_score(cell: Any, target: str) -> None:
    assert TASK.read_target(cell) == [target]


@pytest.mark.parametrize("cell", [None, "", " ", float("nan")])
def test_no_score(cell: Any) -> None:
    assert TASK.read_target(cell) == []


@pytest.mark.parametrize(
    "cell", ["high", "3,5", "nan", "inf", float("inf"), "1e39", "1_000", "０", "0x1", True, 10**400]
)
def test_what_is_no_number(cell: Any) -> None:
    with pytest.raises(ValueError) as caught:
        TASK.read_target(cell)
    assert str(caught.value) == f"got {preview(cell)}; allowed: a number such as 3.5"


@pytest.mark.parametrize("cell", [[1.0], {"a": 1}])
def test_what_is_no_cell(cell: Any) -> None:
    with pytest.raises(ValueError, match=f"^got a {type(cell).__name__}; allowed: text or a number$"):
        TASK.read_target(cell)


def test_numbers_and_words() -> None:
    assert (TASK.number("2.5"), TASK.num_outputs) == (2.5, 1)
    assert math.isnan(TASK.number(""))
    assert TASK.to_text(torch.tensor([[1 / 3], [-2.0], [1e-9]])) == ["0.333333", "-2", "1e-09"]
    assert TASK.to_text(torch.zeros(0, 1)) == []


def test_the_loss_by_hand() -> None:
    targets = TASK.objective.targets([Labelled([1], None, 2.0), Labelled([1], None, -0.5)])
    assert TASK.objective.losses(torch.tensor([[1.0], [1.0]]), targets).tolist() == [1.0, 2.25]
    assert TASK.objective.num_targets(targets) == 2
