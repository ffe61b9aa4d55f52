from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.evaluation.retention import (
    Reading,
    RetentionSet,
    beside,
    changes,
    describe,
    level,
    measure,
    noise_floor,
)
from tests.unit.helpers import COLOURS, fact_rows

HOW = Reading(batch_size=8, max_text_tokens=32)
TEXTS = pd.DataFrame({"id": ["t1", "t2"], "text": ["Ada lives in Rome.", "The film was good."]})
FACTS = RetentionSet("facts", "facts", fact_rows())
TEXT = RetentionSet("text", "text", TEXTS)
HATS = fact_rows().query("relation == 'colour'").reset_index(drop=True)
LABELS = RetentionSet("hats", "classification", HATS, list(dict.fromkeys(COLOURS)))


def test_facts_are_right_or_wrong_as_the_examples_of_an_evaluation(base: Base) -> None:
    found = measure(FACTS, base.model(), base, HOW, "x")
    judged = base.task.evaluator.judge(base.model(), base.tokenizer(), fact_rows(), 8, "x")
    assert found["correct"].tolist() == judged["correct"].tolist()
    assert 0 < level(found) < 1
    assert found.columns.tolist() == ["id", "fact", "relation", "target", "correct", "loss"]


def test_texts_have_a_loss(base: Base) -> None:
    found = measure(TEXT, base.model(), base, HOW, "x")
    assert found.columns.tolist() == ["id", "loss", "num_tokens"]
    assert level(found) == pytest.approx((found["loss"] * found["num_tokens"]).sum() / found["num_tokens"].sum())


def test_a_label_is_right_when_it_is_the_likeliest(base: Base) -> None:
    found, model = measure(LABELS, base.model(), base, HOW, "x"), base.model()
    first = HATS.loc[[0] * len(LABELS.labels)].assign(target=LABELS.labels).reset_index(drop=True)
    losses = base.task.evaluator.judge(model, base.tokenizer(), first, 1, "x")["loss"]
    assert found["predicted"][0] == LABELS.labels[losses.idxmin()]
    assert found["loss"][0] == pytest.approx(losses[LABELS.labels.index(HATS["target"][0])], abs=1e-5)
    assert (found["correct"] == (found["predicted"] == found["target"])).all()
    assert found["correct"].any()


def test_what_a_model_lost_and_gained_of_it(base: Base) -> None:
    before = measure(FACTS, base.model(), base, HOW, "x")
    turned = before.assign(correct=~before["correct"])
    found = changes(beside(turned, before, "facts"))
    assert found["lost"] == found["gained"] == 1.0
    assert found["change"] == pytest.approx(1 - 2 * level(before))
    assert changes(beside(before, before, "facts")) == {"change": 0.0, "lost": 0.0, "gained": 0.0}
    nothing = before.assign(correct=False)
    assert changes(beside(before, nothing, "facts")) == {"change": level(before), "gained": level(before)}


def test_a_change_of_loss_is_averaged_over_tokens() -> None:
    base = pd.DataFrame({"id": ["a", "b"], "loss": [1.0, 2.0], "num_tokens": [1, 3]})
    own = base.assign(loss=[3.0, 2.0])
    assert changes(beside(own, base, "t")) == {"change": 0.5}
    assert beside(own, base, "t")["base_loss"].tolist() == [1.0, 2.0]


def test_the_base_of_other_rows_is_refused() -> None:
    base = pd.DataFrame({"id": ["a", "b"], "loss": [1.0, 2.0], "num_tokens": [1, 3]})
    with pytest.raises(
        UserError, match=r"evaluate.retention.t: the base was measured on other rows; run the retention"
    ):
        beside(base.iloc[::-1], base, "t")


def test_noise_is_what_turns_and_never_cancels() -> None:
    one = pd.DataFrame({"correct": [True, False, True, True]})
    assert noise_floor(one, pd.DataFrame({"correct": [False, True, True, True]})) == 0.5
    loss = pd.DataFrame({"loss": [1.0, 2.0], "num_tokens": [1, 3]})
    assert noise_floor(loss, loss.assign(loss=[1.5, 1.5])) == pytest.approx(0.5)


@pytest.mark.parametrize(("given", "other"), [(128, 64), (3, 1), (1, 2)])
def test_the_second_measurement_has_another_batch_size(given: int, other: int) -> None:
    assert replace(HOW, batch_size=given).at_another_batch_size().batch_size == other


def test_the_base_is_described(base: Base) -> None:
    found = measure(FACTS, base.model(), base, HOW, "x")
    again = measure(FACTS, base.model(), base, HOW.at_another_batch_size(), "x")
    about = describe(FACTS, found, again, 2)
    assert about == {
        "kind": "facts", "num": len(found), "right": int(found["correct"].sum()), "level": level(found), "noise": 0.0,
        "rejected": 2,
    }  # fmt: skip
    assert "right" not in describe(TEXT, *(measure(TEXT, base.model(), base, HOW, "x") for _ in range(2)), 0)


def test_a_worse_model_reads_and_knows_less(base: Base) -> None:
    tuned = base.model()
    with torch.no_grad():
        tuned.get_input_embeddings().weight.mul_(3.0)
    for on in (FACTS, TEXT):
        before, after = (measure(on, model, base, HOW, "x") for model in (base.model(), tuned))
        change = changes(beside(after, before, on.name))["change"]
        assert change < 0 if on is FACTS else change > 0
