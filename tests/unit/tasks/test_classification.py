from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from knowtune.tasks.classification import Classification
from knowtune.text.cells import Number, preview
from knowtune.text.encoded import Labelled

TASK = Classification(labels=["bad", "good", "fair"])
STARS = ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("cell", "target"),
    [("bad", "bad"), (" good ", "good"), (0, "bad"), (1, "good"), (Number("1.0"), "good"), ("1", "good"),
     ("0.0", "bad"), (2, "fair")],
)  # fmt: skip
def test_a_label_by_its_name_or_place(cell: Any, target: str) -> None:
    assert TASK.read_target(cell) == [target]


@pytest.mark.parametrize(
    ("labels", "cell", "target"),
    [(STARS, 3, "3"), (STARS, Number("3.0"), "3"), (STARS, "3.00", "3"), (STARS, "5", "5"), (["-1", "1"], -1, "-1"),
     (["-1", "1"], "+1", "1"), (["0", "1"], 1, "1"), (["0", "1", "odd"], 0, "0"), (["01", "02"], 1, "01"),
     (["1", "1.0"], "1.0", "1.0"), (["0.5", "1.5"], Number("0.50"), "0.5"), (["1e1", "2"], 10, "1e1"),
     (["false", "true"], True, "true"), (["True", "False"], True, "True"), (["true", "false"], "False", "false"),
     (["no", "true"], False, None), (["0", "1"], True, None), (["0", "1"], "true", None), (["no", "yes"], True, None),
     (STARS, 0, None), (STARS, "0", None), (STARS, 6, None), (["-1", "1"], 0, None), (["-1", "1"], Number("-0"), None),
     (["1", "1.0"], "1.00", None), (["1", "odd"], 0, None), (["true", "1"], 0, None),
     (["1 star", "2 stars"], 1, None), (["1 star", "2 stars"], "2 stars", "2 stars"), (["one", "two"], 1, None),
     (["LABEL_0", "LABEL_1"], 1, "LABEL_1"), (["zero", "one"], 1, "one"), (["covid19", "flu"], 1, "flu"),
     (["someone", "tense"], 1, "tense"), (["a", "b"], "01", "b"), (["a", "b"], "1e0", "b"), (["a", "b"], "1_0", None)],
)  # fmt: skip
def test_numbers_mean_names_by_value_and_places_only_where_no_name_is_a_number(
    labels: list[str], cell: Any, target: str | None
) -> None:
    task = Classification(labels=labels)
    if target is not None:
        assert task.read_target(cell) == [target]
        return
    with pytest.raises(ValueError, match=r"^got .*; allowed: .* \(task\.labels\)$"):
        task.read_target(cell)


@pytest.mark.parametrize("cell", [None, "", " ", float("nan")])
def test_no_label(cell: Any) -> None:
    assert TASK.read_target(cell) == []


@pytest.mark.parametrize("cell", [-1, 3, 0.5, "Good", "nan", "inf", "1e400", True, Number("9" * 5000)])
def test_a_label_that_there_is_not(cell: Any) -> None:
    with pytest.raises(ValueError) as caught:
        TASK.read_target(cell)
    assert str(caught.value) == f"got {preview(cell)}; allowed: 0 or 'bad', 1 or 'good', 2 or 'fair' (task.labels)"


def test_labels_that_are_numbers_are_named_alone_and_not_all() -> None:
    with pytest.raises(ValueError) as caught:
        Classification(labels=[str(i + 1) for i in range(30)]).read_target(0)
    first = ", ".join(f"'{i + 1}'" for i in range(20))
    assert str(caught.value) == f"got 0; allowed: {first} and 10 more (task.labels)"


@pytest.mark.parametrize("cell", [["good"], {"a": 1}])
def test_what_is_no_cell(cell: Any) -> None:
    with pytest.raises(ValueError, match=f"^got a {type(cell).__name__}; allowed: text or a number$"):
        TASK.read_target(cell)


@pytest.mark.parametrize("labels", [[], ["one"], ["a", "b", "a"], ["a", ""], "ab"])
def test_labels_are_two_or_more_that_differ(labels: Any) -> None:
    with pytest.raises(ValidationError, match="labels"):
        Classification(labels=labels)


def test_numbers_and_words() -> None:
    assert [TASK.number(name) for name in ("bad", "good", "fair")] == [0.0, 1.0, 2.0]
    assert math.isnan(TASK.number("")) and math.isnan(TASK.number("else"))
    assert TASK.to_text(torch.tensor([[0.1, 0.2, 0.0], [3.0, 1.0, 2.0]])) == ["good", "bad"]
    assert TASK.to_text(torch.zeros(0, 3)) == []
    assert TASK.num_outputs == 3


def test_the_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]))
    targets = TASK.objective.targets([Labelled([1], None, 2.0), Labelled([1], None, 0.0)])
    assert targets.tolist() == [2, 0]
    assert TASK.objective.losses(logits, targets).tolist() == pytest.approx([-math.log(0.5), -math.log(0.7)])
    assert TASK.objective.num_targets(targets) == 2
