from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.tasks import divergence
from knowtune.tasks.divergence import prompt_divergences, token_divergences
from knowtune.tasks.teacher_forcing import read_texts
from knowtune.text.encode_rows import encode_prompts, encode_texts
from tests.unit.helpers import counted_calls, fact_rows

TEXTS = ["Ada lives in Rome.", "The film was good, and it is long.", "Bob"]


@pytest.fixture
def models(base: Base) -> tuple[Any, Any]:
    """A tuned model and the base."""
    pristine, tuned = base.model(), base.model()
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.mul_(1.1)
    return tuned, pristine


def text_divergences(base: Base, tuned: Any, pristine: Any, batch_size: int = 2) -> list[float]:
    """What reading the texts beside the base gives."""
    read = read_texts(tuned, base.tokenizer(), TEXTS, batch_size, 8, "x", pristine)
    return [float(kl) for kl in read["kl"]]


def definition(tuned: Any, pristine: Any, ids: list[int], num: int) -> float:
    """Sum p (log p - log q) in double precision, over the first positions of one sequence alone."""
    with torch.no_grad():
        p, q = (m(torch.tensor([ids])).logits[0, :num].double().softmax(-1) for m in (pristine, tuned))
    return float((p * (p.log() - q.log())).sum() / num)


def test_of_texts_each_token_after_the_first_counts(base: Base, models: tuple[Any, Any]) -> None:
    ids = encode_texts(base.tokenizer(), TEXTS, 8)
    expected = [definition(*models, row, len(row) - 1) for row in ids]
    for batch_size in (1, 3):  # neither padding nor what stands beside a text matters
        measured = text_divergences(base, *models, batch_size)
        assert measured == pytest.approx(expected, abs=1e-5)
    assert min(expected) > 0.001


def test_of_prompts_the_answers_first_token_counts_too(base: Base, models: tuple[Any, Any]) -> None:
    rows = fact_rows().head(5)
    measured = prompt_divergences(*models, base.tokenizer(), rows, 2, "x")
    ids = encode_prompts(base.tokenizer(), rows["prompt"].tolist())
    assert measured["prompt_tokens"].tolist() == [len(row) for row in ids]
    assert measured["prompt_kl"].tolist() == pytest.approx([definition(*models, r, len(r)) for r in ids], abs=1e-5)
    assert measured.index.equals(rows.index)


def test_a_copy_of_the_base_does_not_differ(base: Base, models: tuple[Any, Any]) -> None:
    pristine = models[1]
    assert text_divergences(base, copy.deepcopy(pristine), pristine) == [0.0] * 3


def test_the_base_itself_is_not_run(base: Base, models: tuple[Any, Any]) -> None:
    pristine = models[1]
    with counted_calls(type(pristine), "forward", 3, AssertionError("it was run again")):  # two batches of texts
        assert text_divergences(base, pristine, pristine) == [0.0] * 3


def test_tokens_that_neither_can_write_say_nothing(base: Base, models: tuple[Any, Any]) -> None:
    def forbid(_: Any, __: Any, output: Any) -> Any:
        output.logits[..., 7] = -torch.inf
        return output

    for model in models:
        model.register_forward_hook(forbid)
    measured = text_divergences(base, *models)
    assert all(0 < value < 10 for value in measured)


def test_a_broken_model_is_not_near_the_base(base: Base, models: tuple[Any, Any]) -> None:
    tuned, pristine = models
    with torch.no_grad():
        tuned.lm_head.weight[3] = torch.nan
    measured = text_divergences(base, tuned, pristine)
    assert all(value != value for value in measured)


@pytest.mark.parametrize("chunk", [1, 70, 10**6])
def test_rows_are_compared_a_few_at_a_time(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, of_base = torch.randn(3, 4, 20), torch.randn(3, 4, 20)
    of_base[1, 2, 5] = -torch.inf
    p = of_base.softmax(-1)
    expected = torch.where(p > 0, p * (of_base.log_softmax(-1) - logits.log_softmax(-1)), 0).sum(-1)
    monkeypatch.setattr(divergence, "CHUNK", chunk)
    found = token_divergences(logits, of_base)
    assert found.shape == (3, 4)
    torch.testing.assert_close(found, expected)
    assert token_divergences(logits[:, :0], of_base[:, :0]).shape == (3, 0)
