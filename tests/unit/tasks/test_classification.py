from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from knowtune.encoding import Labelled
from knowtune.tasks.classification import Classification

TASK = Classification(labels=["bad", "good", "3"])


@pytest.mark.parametrize(
    ("cell", "target"),
    [("bad", "bad"), (" good ", "good"), (0, "bad"), (1, "good"), (1.0, "good"), ("1", "good"), ("0.0", "bad"),
     (True, "good"), (False, "bad"), ("3", "3"), (3, "3")],
)  # fmt: skip
def test_a_label_by_its_name_or_number(cell: Any, target: str) -> None:
    assert TASK.read_target(cell) == [target]


@pytest.mark.parametrize("cell", [None, "", float("nan")])
def test_no_label(cell: Any) -> None:
    assert TASK.read_target(cell) == []


@pytest.mark.parametrize("cell", [-1, 4, 0.5, "Good", "nan", "inf", "1e400", ["good"], {"a": 1}])
def test_a_label_that_there_is_not(cell: Any) -> None:
    with pytest.raises(ValueError) as caught:
        TASK.read_target(cell)
    assert str(caught.value) == f"got {cell!r}; allowed: 0 or 'bad', 1 or 'good', 2 or '3' (task.labels)"


@pytest.mark.parametrize("labels", [[], ["one"], ["a", "b", "a"], ["a", ""], "ab"])
def test_labels_are_two_or_more_that_differ(labels: Any) -> None:
    with pytest.raises(ValidationError, match="labels"):
        Classification(labels=labels)


def test_numbers_and_words() -> None:
    assert [TASK.number(name) for name in ("bad", "good", "3")] == [0.0, 1.0, 2.0]
    assert math.isnan(TASK.number("")) and math.isnan(TASK.number("else"))
    assert TASK.words(torch.tensor([[0.1, 0.2, 0.0], [3.0, 1.0, 2.0]])) == ["good", "bad"]
    assert TASK.words(torch.zeros(0, 3)) == []
    assert TASK.num_outputs == 3


def test_the_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]))
    targets = TASK.targets([Labelled([1], None, 2.0), Labelled([1], None, 0.0)])
    assert targets.tolist() == [2, 0]
    assert TASK.losses(logits, targets).tolist() == pytest.approx([-math.log(0.5), -math.log(0.7)])
    assert TASK.num_items(targets) == 2
