"""What a scoring refuses, and which models it scores one example at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.gradients.fisher import fisher_diagonal, parameters_in
from knowtune.gradients.options import Scoring
from knowtune.tasks.next_token import NextToken
from knowtune.text.encoded import Encoded
from tests.unit.gradients.definition import assert_equal, by_definition, diagonal, small, some_rows
from tests.unit.helpers import TASK


def test_no_rows(base: Base) -> None:
    with pytest.raises(UserError, match="Fisher information: no row is left to score"):
        diagonal(base, [])


def test_nothing_in_scope(base: Base) -> None:
    with pytest.raises(UserError, match="Fisher information: no parameter is left to score"):
        fisher_diagonal(base.model(), some_rows(), TASK, {}, Scoring())


@pytest.mark.parametrize("labels", ["true", "expected"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_names_the_row(base: Base, value: float, labels: Any) -> None:
    model = base.model()
    with torch.no_grad():
        model.model.embed_tokens.weight[77] = value
    rows = [Encoded([1, 5, 6 + i, 30], 2, 4) for i in range(6)]
    rows[4] = Encoded([1, 77, 9, 30], 2, 4)
    model.lm_head = torch.nn.Linear(64, model.config.vocab_size, bias=False)
    ids = [f"row-{i}" for i in range(6)]
    with pytest.raises(UserError, match=r"x: the gradient of row 'row-4' is not finite; look at this row"):
        fisher_diagonal(model, rows, TASK, parameters_in(model), Scoring(labels=labels), ids=ids, label="x")


def test_rows_whose_sum_alone_is_not_finite(base: Base) -> None:
    row = some_rows()[0]
    largest = max(float(values.sum()) for values in diagonal(base, [row]).values())

    class Huge(NextToken):
        def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return (1e37 / largest) ** 0.5 * super().losses(logits, targets)  # float32 goes up to 3.4e38

    class HugeTask(type(TASK)):  # type: ignore[misc]
        objective: ClassVar[Any] = Huge()

    with pytest.raises(UserError, match=r"the gradients of rows .* have a sum that is not finite, though each"):
        diagonal(replace(base, task=HugeTask()), [row] * 40, batch_size=40)


def test_a_model_that_mixes_examples_takes_the_slow_way(capsys: pytest.CaptureFixture[str]) -> None:
    """A norm over the batch has no gradient of one example; it is then scored alone."""
    model = small("qwen2")
    forward = type(model.model.norm).forward

    def mixing(x: torch.Tensor) -> torch.Tensor:
        return forward(model.model.norm, x) - 0.5 * x.mean(0, keepdim=True)

    model.model.norm.forward = mixing
    expected, _ = by_definition(model, some_rows(), TASK, parameters_in(model))
    assert_equal(fisher_diagonal(model, some_rows(), TASK, parameters_in(model), Scoring()), expected)
    assert "one example at a time, for " in capsys.readouterr().err
