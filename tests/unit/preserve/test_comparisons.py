from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import CARD, make_card
from knowtune.common.errors import UserError
from knowtune.common.files import write_json
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.models.heads import pooled_states
from knowtune.preserve.comparisons import Labels, Scores, States, Tokens, open_comparison
from knowtune.preserve.options import Distill, Preserve
from knowtune.preserve.part import Part
from knowtune.preserve.preservation import Preservation, open_preservation
from knowtune.preserve.sources import Material
from knowtune.tasks.regression import Regression
from knowtune.text.encoded import Encoded
from tests.unit.helpers import COMPUTE, REVIEWS, TASK, fact_rows, review_rows
from tests.unit.preserve.terms import term_of

TEXTS = ["the film was good .", "very very dull and slow", "a film", "it is long . and poor fun", "one two and a b"]
SCORES = Regression()
ATTENTION = {"target_modules": ["query", "value"]}


def texts_of(base: Base) -> Material:
    sequences = {"text": base.task.encode_texts(base.tokenizer(), TEXTS, 20)}
    if base.task == REVIEWS:
        sequences["known"] = base.task.encode(base.tokenizer(), review_rows())
    return Material(sequences, {source: [str(i) for i in range(len(rows))] for source, rows in sequences.items()})


def opened(base: Base, method: Any, given: Material, **distill: Any) -> tuple[Preservation, Any]:
    """Attach a method as a training does; all sequences are read in one step."""
    options = Preserve.model_validate({"distill": {"on": "text", "share": 1.0, **distill}})
    preservation = open_preservation(options, given, base, 0, "train x")
    assert preservation is not None
    torch.manual_seed(0)
    model: Any = base.model()
    preservation.see_base(model)
    attached = method.attach(model)
    preservation.see_attached(attached)
    return preservation, attached


def shake(model: Any) -> None:
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)


@pytest.fixture
def trained_head(encoder: Base, tmp_path: Path) -> Any:
    """Give a base that has been a classifier, or a scorer, before."""

    def make(task: Any) -> Base:
        before, folder = replace(encoder, task=task), tmp_path / type(task).__name__
        torch.manual_seed(3)
        before.model().save_pretrained(folder)
        before.tokenizer().save_pretrained(folder)
        write_json(folder / CARD, make_card(folder, "before"))
        return Base.open(folder, folder, COMPUTE, task)

    return make


@pytest.mark.parametrize("method", [Lora(rank=2, alpha=4.0, **ATTENTION), Full()], ids=["lora", "full"])
def test_states_are_held_as_drift_measures_them(encoder: Base, method: Any) -> None:
    preservation, model = opened(encoder, method, texts_of(encoder), weight=2.0, temperature=3.0)
    everything = Part(0, 0, len(TEXTS))
    nothing = term_of(preservation, model, everything)
    assert nothing is not None
    assert float(nothing.detach().abs()) < 1e-6
    shake(model)
    loss = term_of(preservation, model, everything)
    assert loss is not None
    now, then = (
        pooled_states(one, encoder.tokenizer(), TEXTS, 3, 20, "x")[1] for one in (model.eval(), encoder.model())
    )
    drift = 1 - torch.nn.functional.cosine_similarity(now, then)
    torch.testing.assert_close(loss, 2 * drift.mean())
    loss.backward()
    moved = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert moved
    assert not any("classifier" in name for name in moved)
    assert isinstance(method, Full) or all("lora_" in name for name in moved)


def test_a_decoder_with_a_head_is_held_by_its_states(decoder: Base) -> None:
    lora = Lora(rank=2, alpha=4.0)
    preservation, model = opened(decoder, lora, texts_of(decoder))
    shake(model)
    loss = term_of(preservation, model, Part(0, 0, len(TEXTS)))
    now, then = (
        pooled_states(one, decoder.tokenizer(), TEXTS, 3, 20, "x")[1] for one in (model.eval(), decoder.model())
    )
    torch.testing.assert_close(loss, (1 - torch.nn.functional.cosine_similarity(now, then)).mean())


@pytest.mark.parametrize("task", [REVIEWS, SCORES], ids=["labels", "scores"])
def test_a_trained_head_is_held_by_its_outputs(trained_head: Any, task: Any) -> None:
    base = trained_head(task)
    preservation, model = opened(base, Full(), texts_of(base), match="logits")
    everything = Part(0, 0, len(TEXTS))
    nothing = term_of(preservation, model, everything)
    assert nothing is not None
    assert float(nothing.detach()) < 1e-6
    shake(model)
    inputs = base.task.inputs(texts_of(base).sequences["text"])
    now, then = (one(**inputs).logits for one in (model.eval(), base.model()))
    if task == SCORES:
        expected = (now - then).square().mean()
    else:
        expected = torch.nn.functional.kl_div(now.log_softmax(-1), then.softmax(-1), reduction="batchmean")
    torch.testing.assert_close(term_of(preservation, model, everything), expected)


def test_a_new_head_says_nothing(encoder: Base) -> None:
    with pytest.raises(UserError) as caught:
        opened(encoder, Full(), texts_of(encoder), match="logits")
    what = "the base's classifier is new, and says nothing yet"
    assert str(caught.value) == f"train x: preserve.distill.match: got 'logits', but {what}; take states"


def test_what_suits_the_task() -> None:
    expected: list[tuple[Any, Any, type]] = [
        (TASK, None, Tokens), (TASK, "logits", Tokens), (REVIEWS, None, States), (REVIEWS, "states", States),
        (REVIEWS, "logits", Labels), (SCORES, None, States), (SCORES, "logits", Scores),
    ]  # fmt: skip
    for task, match, kind in expected:
        assert type(open_comparison(Distill(match=match), task, "x")) is kind
    with pytest.raises(UserError, match=r"^x\.match: got 'states', of a model without a head; take logits"):
        open_comparison(Distill(match="states"), TASK, "x")


@pytest.mark.parametrize("source", ["self", "prompts"])
def test_a_model_with_a_head_writes_nothing(encoder: Base, source: str) -> None:
    written = Material({source: [Encoded.running([1, 2])]}, {source: ["0"]})
    with pytest.raises(UserError) as caught:
        opened(encoder, Full(), written, on=source)
    fault = f"got '{source}', of a model that writes no text; take text, known or replay"
    assert str(caught.value) == f"train x: preserve.distill.on: {fault}"


def test_texts_without_labels_are_no_rows_to_replay(encoder: Base) -> None:
    options = Preserve.model_validate({"replay": {"from": "text"}})
    with pytest.raises(UserError, match=r"5 sequences of 'text' have nothing to learn, e.g. '0'; a classifier replays"):
        open_preservation(options, texts_of(encoder), encoder, 0, "train x")


def test_a_classifier_replays_rows_and_compares_them(encoder: Base) -> None:
    options = Preserve.model_validate({"replay": {"from": "known", "share": 1.0}, "distill": {"on": "replay"}})
    preservation = open_preservation(options, texts_of(encoder), encoder, 0, "train x")
    assert preservation is not None
    model: Any = encoder.model().train()
    preservation.see_base(model)
    preservation.see_attached(model)
    shake(model)
    loss = term_of(preservation, model, Part(0, 0, 24))
    means = preservation.take_means()
    rows = encoder.task.encode(encoder.tokenizer(), review_rows())
    logits = model(**encoder.task.inputs(rows)).logits
    cross_entropy = encoder.task.objective.losses(logits, encoder.task.objective.targets(rows)).mean()
    torch.testing.assert_close(means["replay"], cross_entropy.detach())
    assert 0 < float(means["distill"]) < 2
    torch.testing.assert_close(loss, means["replay"] + means["distill"])


def test_what_is_longer_than_the_model_reads(base: Base) -> None:
    rows = {"self": [Encoded.running([3] * 10), Encoded.running([3] * 62)]}
    given = Material(rows, {"self": ["short", "long"]})
    options = Preserve.model_validate({"distill": {"on": "self"}})
    assert open_preservation(options, given, base, 0, "train x") is not None
    with pytest.raises(UserError) as caught:
        open_preservation(options, given, base, 0, "train x", virtual_tokens=3)
    less = "the base's context of 64, of which the method's virtual tokens take 3"
    assert str(caught.value) == (
        f"train x: preserve: sequence 'long' has 62 tokens, more than {less}; give shorter ones"
    )
    with pytest.raises(UserError, match="nothing of 'self' to read"):
        open_preservation(options, Material({}, {}), base, 0, "train x")


def test_every_token_after_the_first_counts(base: Base) -> None:
    rows = base.task.encode(base.tokenizer(), fact_rows().head(5))
    tokens = open_comparison(Distill(), base.task, "x")
    assert [tokens.num_compared(row) for row in rows] == [len(row.input_ids) - 1 for row in rows]
    inputs = base.task.inputs(rows)
    assert tokens.read(inputs).sum(1).tolist() == [len(row.input_ids) - 1 for row in rows]  # type: ignore[attr-defined]
