from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.tasks.teacher_forcing import judge_rows
from knowtune.text.encoded import Encoded
from tests.unit.helpers import COLOURS, TASK, fact_rows, row, table


@pytest.mark.parametrize(
    ("cell", "answers"),
    [("Rome", ["Rome"]), (" Rome\n", [" Rome\n"]), (7, ["7"]), (None, []), (float("nan"), []), ("", []), ([], []),
     (["Rome", "Roma"], ["Rome", "Roma"]), (["Rome", "Rome ", None, " ", "Rome"], ["Rome", "Rome "]),
     ([3, "3.0"], ["3", "3.0"])],
)  # fmt: skip
def test_one_answer_or_several(cell: Any, answers: list[str]) -> None:
    assert TASK.read_target(cell) == answers


@pytest.mark.parametrize(("cell", "got"), [({"text": ["Rome"]}, "dict"), ([["Rome"]], "list"), ([{"a": 1}], "dict")])
def test_what_is_no_answer(cell: Any, got: str) -> None:
    with pytest.raises(ValueError) as caught:
        TASK.read_target(cell)
    assert str(caught.value) == f"got a {got}; allowed: a text, or a list of texts"


def test_a_batch_by_hand() -> None:
    rows = [Encoded([1, 2, 3, 9], 2, 3), Encoded([4, 9], 1, 1)]
    inputs, targets = TASK.inputs(rows), TASK.objective.targets(rows)
    assert {name: tensor.tolist() for name, tensor in inputs.items()} == {
        "input_ids": [[1, 2, 3, 9], [4, 9, 0, 0]], "attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0]]
    }  # fmt: skip
    assert targets.tolist() == [[-100, -100, 3, 9], [-100, 9, -100, -100]]
    assert TASK.objective.num_targets(targets) == 3
    chances = torch.full((2, 4, 10), 0.1)
    assert TASK.objective.losses(chances.log(), targets).tolist() == pytest.approx([2 * math.log(10), math.log(10)])


class TestSeveralRightAnswers:
    def judged(self, base: Base, rows: Any) -> Any:
        return TASK.evaluator.judge(base.model(), base.tokenizer(), rows, 5, "x")

    def test_one_right_answer_is_enough_and_the_likeliest_gives_the_loss(self, base: Base, tokenizer: Any) -> None:
        prompt, model = "The hat of Ada is ", base.model()
        each = judge_rows(model, tokenizer, table(*(row(c, prompt, c) for c in COLOURS)), 5, "x")
        losses = dict(zip(COLOURS, each["loss"], strict=True))
        (choice,) = [colour for colour, right in zip(COLOURS, each["correct"], strict=True) if right]
        one, two, three = (colour for colour in COLOURS if colour != choice)
        rows = table(
            row("alone", prompt, one),
            row("alias", prompt, one, aliases=f"{two}\n{choice}"),
            row("target", prompt, choice, aliases=two),
            row("none", prompt, one, aliases=f"{two}\n{three}"),
        ).set_axis([7, 3, 9, 1])
        found = self.judged(base, rows)
        assert found.index.tolist() == [7, 3, 9, 1]
        assert found["correct"].tolist() == [False, True, True, False]
        assert found["correct"].dtype == bool
        least = [losses[one], losses[choice], losses[choice], min(losses[c] for c in (one, two, three))]
        assert found["loss"].tolist() == pytest.approx(least, abs=1e-5)
        assert each["answer"].dropna().tolist() == [choice]  # it also ends there
        assert found["answer"].fillna("").tolist() == ["", choice, choice, ""]

    def test_a_target_of_several_lines_is_one_answer(self, base: Base, tokenizer: Any) -> None:
        rows = table(row("a", "Ada lives in ", "Rome\nand Oslo"), row("b", "Bob lives in ", "x", aliases="y"))
        expected = judge_rows(base.model(), tokenizer, rows.head(1), 5, "x")["loss"].iloc[0]
        assert self.judged(base, rows)["loss"].iloc[0] == pytest.approx(expected, abs=1e-5)

    def test_without_aliases_nothing_is_different(self, base: Base, tokenizer: Any) -> None:
        assert self.judged(base, fact_rows()).equals(judge_rows(base.model(), tokenizer, fact_rows(), 5, "x"))

    def test_the_old_answer_stands_beside_the_right_one(self, base: Base, tokenizer: Any) -> None:
        prompt, model = "The hat of Ada is ", base.model()
        each = judge_rows(model, tokenizer, table(*(row(c, prompt, c) for c in COLOURS)), 5, "x")["loss"].tolist()
        one, two, three, *_ = COLOURS
        rows = table(
            row("one", prompt, one, old=two), row("none", prompt, one), row("two", prompt, two, old=f"{one}\n{three}")
        ).set_axis([7, 3, 9])
        found = self.judged(base, rows)
        assert found["loss"].tolist() == pytest.approx([each[0], each[0], each[1]], abs=1e-5)
        assert found["old_loss"].tolist() == pytest.approx(
            [each[1], math.nan, min(each[0], each[2])], abs=1e-5, nan_ok=True
        )
        assert "old_loss" not in self.judged(base, rows.assign(old=""))

    def test_only_the_first_answer_is_learned(self, tokenizer: Any) -> None:
        one, other = TASK.encode(tokenizer, table(row("a", "x ", "y"), row("b", "x ", "y", aliases="z")))
        assert one == other
