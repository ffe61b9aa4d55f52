from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.models.forward import forward
from knowtune.models.generate import greedy_answers
from knowtune.tasks.teacher_forcing import judge_logits, judge_rows, read_texts
from knowtune.text.encode_rows import encode_rows, encode_texts
from knowtune.text.encoded import Encoded
from tests.unit.helpers import COLOURS, NAMES, TOWNS, fact_rows, row, table

TEXTS = ["The hat of Ada is red.", "Bob", "Cleo lives in Oslo, and Dan lives in Bern " * 4, "x"]


def many() -> pd.DataFrame:
    rows = [row(f"c{n}{c}", f"The hat of {n} is ", c, "colour", n) for n in NAMES for c in COLOURS]
    return table(*rows, *(row(f"t{n}{t}", f"{n} lives in ", t, "town", n) for n in NAMES for t in TOWNS))


class TestJudgeLogits:
    ROWS = (Encoded([0, 1, 2, 3], 2, 3), Encoded([0, 3], 1, 2), Encoded([0, 1, 3], 2, 2))

    def logits(self) -> torch.Tensor:
        chances = torch.full((3, 4, 4), 0.25)
        chances[0, 1] = torch.tensor([0.1, 0.2, 0.6, 0.1])  # says 2: right
        chances[1, 0] = torch.tensor([0.7, 0.1, 0.1, 0.1])  # says 0: wrong
        return chances.log()

    def test_by_hand(self) -> None:
        correct, loss, ended = judge_logits(self.logits(), list(self.ROWS))
        assert correct == [True, False, False]  # a row without a target is never right
        assert ended == [False, False, False]  # where all tokens are as likely, the first is the choice
        assert loss == pytest.approx([-math.log(0.6), -math.log(0.1), 0.0], rel=1e-6)

    def test_the_logits_from_the_first_target_on_are_enough(self) -> None:
        rows = [Encoded([0, 1, 2, 3], 2, 3), Encoded([0, 1, 3, 2], 3, 4), Encoded([0, 2, 3], 2, 3)]
        logits = torch.randn(3, 4, 4)
        assert judge_logits(logits[:, 1:], rows) == judge_logits(logits, rows)
        assert judge_logits(logits[:, 2:], rows) != judge_logits(logits, rows)

    def test_rows_of_one_token(self) -> None:
        assert judge_logits(torch.zeros(1, 1, 4), [Encoded([0], 1, 1)]) == ([False], [0.0], [False])

    def test_one_wrong_token_makes_a_target_wrong(self) -> None:
        chances = torch.full((1, 4, 4), 0.1)
        chances[0, 1, 2] = chances[0, 2, 3] = 0.7
        both = [Encoded([0, 1, 2, 3], 2, 4)]
        assert judge_logits(chances.log(), both)[0] == [True]
        chances[0, 2, 1] = 0.8
        assert judge_logits(chances.log(), both)[0] == [False]

    def test_the_end_token_is_not_judged(self) -> None:
        chances = torch.full((1, 4, 4), 0.1)
        chances[0, 1, 2] = 0.7
        correct, loss, _ = judge_logits(chances.log(), [Encoded([0, 1, 2, 3], 2, 3)])
        assert correct == [True]
        assert loss == pytest.approx([-math.log(0.7)])

    @pytest.mark.parametrize(
        ("first", "then", "ended"),
        [(2, 3, True), (2, 1, False), (1, 3, False)],
        ids=["right and ends", "right and goes on", "wrong and ends"],
    )
    def test_an_answer_is_known_where_it_is_right_and_ends(self, first: int, then: int, ended: bool) -> None:
        chances = torch.full((1, 4, 4), 0.1)
        chances[0, 1, first] = chances[0, 2, then] = 0.7
        assert judge_logits(chances.log(), [Encoded([0, 1, 2, 3], 2, 3)])[2] == [ended]

    def test_without_an_end_token_no_answer_is_known(self) -> None:
        chances = torch.full((1, 3, 4), 0.1)
        chances[0, 1, 2] = 0.7
        assert judge_logits(chances.log(), [Encoded([0, 1, 2], 2, 3)])[::2] == ([True], [False])


class TestJudgeRows:
    def test_correct_is_what_greedy_decoding_would_write(self, base: Base, tokenizer: Any) -> None:
        model, rows = base.model(), many()
        found = judge_rows(model, tokenizer, rows, 16, "test")
        expected = []
        for encoded in encode_rows(tokenizer, rows["prompt"], rows["target"]):
            target = encoded.input_ids[encoded.target_start : encoded.target_end]
            asked = torch.tensor([encoded.input_ids[: encoded.target_start]])
            written = model.generate(
                asked, attention_mask=torch.ones_like(asked), max_new_tokens=len(target), do_sample=False
            )
            expected.append(written[0, asked.shape[1] :].tolist() == target)
        assert found["correct"].tolist() == expected
        assert 10 <= sum(expected) <= len(rows) - 10

    def test_batches_do_not_change_the_result(self, base: Base, tokenizer: Any) -> None:
        model, rows = base.model(), many()
        found = [judge_rows(model, tokenizer, rows, size, "test") for size in (1, 7, 200)]
        for other in found[1:]:
            assert other["correct"].tolist() == found[0]["correct"].tolist()
            assert other["loss"].tolist() == pytest.approx(found[0]["loss"].tolist(), abs=1e-5)

    def test_the_loss_is_the_mean_over_the_targets_tokens(self, base: Base, tokenizer: Any) -> None:
        model, rows = base.model(), fact_rows()
        expected = []
        for encoded in encode_rows(tokenizer, rows["prompt"], rows["target"]):
            with torch.inference_mode():
                chances = model(input_ids=torch.tensor([encoded.input_ids])).logits[0].log_softmax(-1)
            places = range(encoded.target_start, encoded.target_end)
            expected.append(-sum(float(chances[i - 1, encoded.input_ids[i]]) for i in places) / len(places))
        assert judge_rows(model, tokenizer, rows, 8, "x")["loss"].tolist() == pytest.approx(expected, abs=1e-5)

    def test_results_stand_on_the_index_of_the_rows(self, base: Base, tokenizer: Any) -> None:
        rows = fact_rows().head(3).set_axis([9, 4, 6])
        found = judge_rows(base.model(), tokenizer, rows, 2, "x")
        assert found.index.tolist() == [9, 4, 6]
        assert found.columns.tolist() == ["correct", "loss", "answer"]
        assert found["correct"].dtype == bool

    def test_no_rows(self, base: Base, tokenizer: Any) -> None:
        found = judge_rows(base.model(), tokenizer, fact_rows()[:0], 2, "x")
        assert (len(found), found["correct"].dtype) == (0, bool)


class TestReadTexts:
    @pytest.mark.parametrize("batch_size", [1, 3, 8])
    @pytest.mark.parametrize("max_tokens", [4, 64])
    def test_a_hand_loop_reads_the_same(self, base: Base, tokenizer: Any, batch_size: int, max_tokens: int) -> None:
        model = base.model()
        found = read_texts(model, tokenizer, TEXTS, batch_size, max_tokens, "x")
        for text, loss, num in zip(TEXTS, found["loss"], found["num_tokens"], strict=True):
            ids = encode_texts(tokenizer, [text], max_tokens)[0]
            assert len(ids) <= max_tokens
            with torch.inference_mode():
                chances = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            nats = -sum(float(chances[i, ids[i + 1]]) for i in range(len(ids) - 1))
            assert num == len(ids) - 1
            assert loss == pytest.approx(nats / num, rel=1e-5)

    def test_no_texts(self, base: Base, tokenizer: Any) -> None:
        found = read_texts(base.model(), tokenizer, TEXTS[:0], 2, 8, "x")
        assert (len(found), found.columns.tolist()) == (0, ["loss", "num_tokens"])


def test_forward_leaves_virtual_tokens_out(base: Base) -> None:
    class Prompted(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            out = self.model(input_ids=input_ids, attention_mask=attention_mask)
            out.logits = torch.cat([torch.zeros_like(out.logits[:, :1]), out.logits], 1)
            return out

    model = base.model()
    with torch.inference_mode():
        assert torch.equal(forward(Prompted(model), [[1, 2, 3], [4]]), forward(model, [[1, 2, 3], [4]]))
        assert forward(model, [[1, 2, 3], [4]]).shape == (2, 3, 320)


@pytest.mark.parametrize("training", [False, True])
def test_measuring_leaves_model_and_generators_as_they_are(base: Base, tokenizer: Any, training: bool) -> None:
    model = base.model().train(training)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    judge_rows(model, tokenizer, fact_rows().head(4), 2, "x")
    read_texts(model, tokenizer, TEXTS, 2, 16, "x")
    greedy_answers(model, tokenizer, ["Ada lives in"], 2, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training is training
    assert all(p.grad is None for p in model.parameters())
    assert all(p.requires_grad for p in model.parameters())
