"""Which tokens are the query of which."""

from __future__ import annotations

import pytest
import torch

from knowtune.common.errors import UserError
from knowtune.methods.imsm.tuner.query import Sums, running_queries
from knowtune.text.prompt_tokens import prompt_tokens

from .models import IDS, LABELS, llama, logits_of, shake, weave

PARTS = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]])[..., None].expand(1, 6, 3)


def queries(prompt, real=None, starts=None, parts=PARTS, before=None):
    mean, sums = running_queries(parts, real, prompt, starts, before)
    assert mean.shape == parts.shape and sums.seen.shape == (len(parts), 4)
    return mean[0, :, 0].tolist()


def mask(text):
    return torch.tensor([[letter == "p" for letter in text]])


def test_of_one_prompt_and_one_answer_it_is_the_prompts_mean_throughout_the_answer():
    assert queries(mask("pppaaa"))[2:] == pytest.approx([7 / 3] * 4)


def test_a_token_of_a_prompt_has_no_later_one_in_its_query():
    assert queries(mask("pppaaa"))[:3] == pytest.approx([1, 1.5, 7 / 3])
    assert queries(True) == pytest.approx([1, 1.5, 7 / 3, 15 / 4, 31 / 5, 63 / 6])


def test_of_several_turns_an_answers_query_is_all_before_it():
    assert queries(mask("pappaa")) == pytest.approx([1, 1.5, 7 / 3, 15 / 4, 15 / 4, 15 / 4])


def test_packed_rows_have_queries_of_their_own():
    starts = torch.tensor([[True, False, False, True, False, False]])
    assert queries(mask("ppappa"), starts=starts) == pytest.approx([1, 1.5, 1.5, 8, 12, 12])
    assert queries(True, starts=starts) == pytest.approx([1, 1.5, 7 / 3, 8, 12, 56 / 3])
    assert queries(mask("ppaaaa"), starts=starts)[3:] == pytest.approx([8, 12, 56 / 3])


def test_padding_is_in_no_query():
    real = torch.tensor([[0, 0, 1, 1, 1, 1]])
    assert queries(mask("ppppaa"), real)[2:] == pytest.approx([4, 6, 6, 6])
    assert queries(True, real)[2:] == pytest.approx([4, 6, 28 / 3, 15])
    assert queries(mask("pppppp"), 1 - real)[:2] == pytest.approx([1, 1.5])


@pytest.mark.parametrize("text", ["aaaaaa", "paaaaa"])
def test_a_prompt_of_one_token_at_most_is_none(text):
    assert queries(mask(text)) == queries(True)


def test_without_any_token_the_query_is_0():
    assert queries(mask("aaaaaa"), torch.zeros(1, 6)) == [0] * 6


@pytest.mark.parametrize("text", ["pppaaa", "pappaa", "aappaa", "paaaaa", "pppppp"])
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_pieces_give_what_the_whole_does(text, cut):
    whole, sums = running_queries(PARTS, None, mask(text), None, None)
    first, between = running_queries(PARTS[:, :cut], None, mask(text)[:, :cut], None, None)
    second, after = running_queries(PARTS[:, cut:], None, mask(text)[:, cut:], None, between)
    assert torch.allclose(torch.cat([first, second], 1), whole)
    assert torch.allclose(after.seen, sums.seen) and torch.allclose(after.query, sums.query)


def test_the_step_of_a_generation_keeps_the_query_and_counts_on():
    before = Sums(torch.tensor([[7.0, 7, 7, 3]]), torch.tensor([[3.0, 3, 3, 2]]))
    mean, sums = running_queries(PARTS[:, 3:4], None, False, None, before)
    assert mean[0, 0].tolist() == [1.5] * 3
    assert sums.seen.tolist() == [[15, 15, 15, 4]] and torch.equal(sums.query, before.query)


def test_labels_say_what_the_prompt_is():
    labels = torch.tensor([[-100, -100, 5, 6, -100], [-100, 4, 5, 6, 7], [3, 4, 5, 6, -100]])
    real = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    assert prompt_tokens(labels, real).tolist() == [
        [True, True, False, False, False],
        [True, False, False, False, False],
        [False] * 5,
    ]


def test_text_that_is_all_learned_is_computed_as_without_labels():
    woven = shake(weave(llama()))
    with torch.no_grad():
        for labels in (IDS, torch.cat([torch.full_like(IDS[:, :1], -100), IDS[:, 1:]], 1)):
            assert torch.equal(woven(input_ids=IDS, labels=labels).logits, logits_of(woven))
        assert not torch.allclose(woven(input_ids=IDS, labels=LABELS).logits, logits_of(woven), atol=1e-4)


def test_a_prompt_that_nobody_names_is_an_error_in_training():
    woven = weave(llama()).train()
    with pytest.raises(UserError, match="where is the prompt\\? In training the gate must know: give labels"):
        woven(input_ids=IDS)
    with pytest.raises(UserError, match=r"the prompt mask is of \(2, 5\), and the input of \(2, 8\)"):
        woven(input_ids=IDS, prompt_mask=torch.ones(2, 5))
    assert weave(llama(), gate="token").train()(input_ids=IDS).logits.requires_grad
    assert torch.isfinite(woven(input_ids=IDS, prompt_mask=torch.ones_like(IDS)).logits).all()


def test_rows_packed_by_their_positions_are_computed_as_alone():
    """As far as the query goes: what attention sees is the model's own business."""
    woven = shake(weave(llama(), "ia3"))
    for layer in woven.base_model.model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
    packed = IDS.reshape(1, -1)
    positions = torch.arange(8).repeat(2)[None]
    with torch.no_grad():
        alone = woven(input_ids=IDS, labels=LABELS).logits
        given = {"input_ids": packed, "labels": LABELS.reshape(1, -1)}
        together = woven(**given, position_ids=positions).logits
        assert torch.allclose(together.view_as(alone), alone, atol=1e-5)
        assert not torch.allclose(woven(**given).logits.view_as(alone), alone, atol=1e-3)


def test_a_later_token_changes_nothing_before_it():
    woven = shake(weave(llama()))
    other = IDS.clone()
    other[:, 6:] = 3
    assert torch.allclose(logits_of(woven)[:, :6], logits_of(woven, other)[:, :6], atol=1e-6)
