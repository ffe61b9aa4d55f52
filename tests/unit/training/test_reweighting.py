from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.tasks.regression import Regression
from knowtune.text.encoded import IGNORE_INDEX
from knowtune.training.dataset import Rows
from knowtune.training.fit import Fitted, fit, seed_everything
from knowtune.training.reweighting import STATE, Reweighting, open_reweighting
from knowtune.training.trainer import KnowledgeTrainer
from tests.unit.helpers import (
    counted_calls,
    encoded,
    equal_states,
    fact_rows,
    plan,
    recipe,
    review_rows,
    row,
    state,
    table,
    train,
    training,
    with_distances,
)

BOTH = pytest.mark.parametrize("granularity", ["example", "token"])
ROWS = with_distances(fact_rows())


def opened(base: Base, rows: pd.DataFrame = ROWS, **options: Any) -> Reweighting:
    return open_reweighting(plan(**options), rows, encoded(base, rows), base, base.tokenizer(), "training")


def descend(base: Base, rows: Rows, work: Path, reweighting: Reweighting | None = None, **changes: Any) -> Fitted:
    """Take steps of plain gradient descent: they show the gradient."""
    seed_everything(0)
    model = Full().attach(base.model())
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    made = recipe(**{"max_grad_norm": 1e9, "learning_rate": 0.1, **changes})
    changes = {"task": base.task, "optimizer": sgd, "reweighting": reweighting}
    return fit(model, training(rows, work, made, **changes))


def losses(base: Base, rows: Rows) -> torch.Tensor:
    """Cross-entropy of every learned token, row by row and without padding  # (items,)."""
    model, found = base.model(), []
    for one in rows.rows:
        labels = torch.tensor(one.labels)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([one.input_ids])).logits[0]
        each = cross_entropy(logits[:-1], labels[1:], ignore_index=IGNORE_INDEX, reduction="none")
        found.append(each[labels[1:] != IGNORE_INDEX])
    return torch.cat(found)


class TestWeights:
    @BOTH
    @pytest.mark.parametrize("alpha", [-0.7, 0.5, 3.0])
    def test_positive_with_a_token_mean_of_1(self, base: Base, granularity: str, alpha: float) -> None:
        weights = opened(base, granularity=granularity, alpha=alpha).rows.weights
        assert weights.dtype == torch.float32
        assert (weights > 0).all()
        assert weights.double().mean().item() == pytest.approx(1, abs=1e-6)
        assert weights.std() > 0.1

    def test_a_rows_target_tokens_share_its_weight(self, base: Base) -> None:
        found = opened(base, alpha=0.5)
        parts = torch.split(found.rows.weights, found.rows.counts.tolist())
        assert all((part == part[0]).all() for part in parts)
        order = np.argsort(ROWS["distance"].to_numpy())
        assert (np.diff([float(parts[i][0]) for i in order]) >= 0).all()

    def test_they_are_normalised_over_the_rows_that_are_given(self, base: Base) -> None:
        some = ROWS.iloc[[3, 9, 20]]
        found = opened(base, some, alpha=0.5).rows.weights
        assert found.mean().item() == pytest.approx(1, abs=1e-6)
        assert found.min() < 1 < found.max()

    def test_tokens_by_hand(self, base: Base) -> None:
        found = opened(base, granularity="token", batch_size=5)
        model = base.model()
        table_ = model.get_input_embeddings().weight.detach().double()
        expected = []
        for one in found.rows.rows:
            with torch.inference_mode():
                predicted = model(input_ids=torch.tensor([one.input_ids])).logits[0].argmax(-1)
            for place in range(one.target_start, len(one.input_ids)):
                a, b = table_[predicted[place - 1]], table_[one.input_ids[place]]
                expected.append(float(1 - a @ b / a.norm() / b.norm()) if (a != b).any() else 0.0)
        assert found.distances == pytest.approx(expected, abs=1e-9)
        assert 0 < (found.distances == 0).sum() < len(expected)  # the base knows half of its facts

    def test_flow_by_hand(self, base: Base) -> None:
        rows = fact_rows()  # without distances: none are needed
        found = opened(base, rows, form="flow", batch_size=5)
        each = torch.split(losses(base, found.rows), found.rows.counts.tolist())
        means = np.array([float(part.mean()) for part in each])
        assert found.distances == pytest.approx(means, rel=1e-5)
        raw, counts = np.exp(-means / np.median(means)), found.rows.counts.numpy()
        expected = torch.from_numpy(raw * counts.sum() / (raw * counts).sum()).repeat_interleave(found.rows.counts)
        assert torch.allclose(found.rows.weights.double(), expected, rtol=1e-4)
        assert found.measure is None

    def test_stm_leaves_out_what_the_base_does_not_expect(self, base: Base) -> None:
        found = opened(base, fact_rows(), form="stm", batch_size=5)
        each = losses(base, found.rows)
        kept = each.exp() <= 2.5
        assert 0 < int(kept.sum()) < len(each)  # the base knows half of its facts
        assert torch.allclose(found.rows.weights, kept.float() * len(each) / kept.sum())

    def test_a_regression_weighs_by_its_heads_loss(self, decoder: Base, tmp_path: Path) -> None:
        scores = replace(decoder, task=Regression())
        torch.manual_seed(0)
        scores.model().save_pretrained(tmp_path)  # a head that is no longer new
        scores.tokenizer().save_pretrained(tmp_path)
        trained = replace(scores, folder=tmp_path)
        rows = review_rows().assign(target=[str(i % 5) for i in range(24)])
        found = opened(trained, rows, form="flow")
        with torch.inference_mode():
            logits = [trained.model()(input_ids=torch.tensor([row.input_ids])).logits[0, 0] for row in found.rows.rows]
        expected = [(float(logit) - i % 5) ** 2 for i, logit in enumerate(logits)]
        assert found.distances == pytest.approx(expected, rel=1e-4, abs=1e-6)

    def test_a_new_head_has_no_loss_to_weigh_by(self, decoder: Base) -> None:
        with pytest.raises(UserError, match=r"^params.yaml: runs.x.reweight: .* its head is new \(score.weight\)"):
            opened(decoder, review_rows(), form="flow")

    def test_missing_distances_name_the_key(self, base: Base) -> None:
        for rows in (fact_rows(), fact_rows().assign(distance=np.nan)):
            with pytest.raises(UserError, match=r"^params.yaml: runs.x.reweight: 24 of 24 rows have no distance; "):
                opened(base, rows)
        assert opened(base, fact_rows(), granularity="token")  # measures for itself

    @pytest.mark.parametrize(
        ("rows", "alpha", "why"),
        [(ROWS, 0.0, "alpha is 0"), (ROWS.assign(distance=0.4), 1.0, "all distances are the same"), (ROWS, 1.0, None)],
    )
    def test_it_prints_where_it_has_no_effect(
        self, base: Base, rows: pd.DataFrame, alpha: float, why: str | None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        opened(base, rows, alpha=alpha)
        printed = capsys.readouterr().err
        assert printed == (f"training: runs.x.reweight has no effect by now: {why}\n" if why else "")

    @pytest.mark.parametrize(
        ("rows", "options", "why"),
        [
            (fact_rows(), {"form": "stm", "threshold": 1e6}, "no token is above the threshold"),
            (fact_rows().head(1), {"form": "flow"}, "all losses are the same"),
        ],
    )
    def test_it_prints_where_losses_have_no_effect(
        self, base: Base, rows: pd.DataFrame, options: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        opened(base, rows, **options)
        assert f"training: runs.x.reweight has no effect by now: {why}\n" in capsys.readouterr().err

    @pytest.mark.parametrize(("form", "columns"), [("flow", []), ("stm", ["token_losses", "token_weights"])])
    def test_summary_and_table_by_loss(self, base: Base, form: str, columns: list[str]) -> None:
        found = opened(base, fact_rows(), form=form)
        assert found.table().columns.tolist() == ["id", "loss", "weight", *columns]
        summary = json.loads(json.dumps(found.summary()))
        assert summary["clipped"] == 0
        assert summary["min"] == pytest.approx(float(found.rows.weights.min()))

    @BOTH
    def test_summary_and_table(self, base: Base, granularity: str) -> None:
        found = opened(base, granularity=granularity, alpha=1.0, highest=1.5)
        summary, by_row = found.summary(), found.table()
        units = len(ROWS) if granularity == "example" else len(found.rows.weights)
        assert json.loads(json.dumps(summary)) == summary
        assert summary["num_units"] == units
        assert summary["measured_at"] == 0
        assert summary["min"] == pytest.approx(float(found.rows.weights.min()))
        assert summary["max"] == pytest.approx(float(found.rows.weights.max()))
        assert 0 < summary["clipped"] < 1
        assert 1 < summary["effective_units"] < units
        assert by_row["id"].tolist() == ROWS["id"].tolist()
        parts = torch.split(found.rows.weights.double(), found.rows.counts.tolist())
        assert by_row["weight"].tolist() == pytest.approx([float(part.mean()) for part in parts])
        if granularity == "token":
            assert by_row["token_weights"].tolist() == [part.tolist() for part in parts]
            assert np.concatenate(by_row["token_distances"].tolist()).tolist() == found.distances.tolist()
        else:
            assert by_row.columns.tolist() == ["id", "distance", "weight"]
            assert by_row["distance"].tolist() == pytest.approx(ROWS["distance"].tolist())

    def test_equal_weights_are_worth_all_rows(self, base: Base) -> None:
        assert opened(base, alpha=0.0).summary()["effective_units"] == len(ROWS)


def step(reweighting: Reweighting, model: torch.nn.Module, number: int, last: int = 9) -> None:
    """Tell that an optimiser step was done, as the Trainer does."""
    from accelerate import PartialState
    from transformers import TrainerControl, TrainerState, TrainingArguments

    PartialState()
    args = TrainingArguments(use_cpu=True)
    reweighting.on_step_end(args, TrainerState(global_step=number, max_steps=last), TrainerControl(), model=model)


@BOTH
def test_modes_flags_and_gradients_are_given_back(base: Base, granularity: str) -> None:
    found = opened(base, granularity=granularity, refresh_steps=1)
    model = Lora(rank=2, alpha=4.0, dropout=0.3).attach(base.model()).train()
    part = model.get_submodule("base_model.model.model.layers.0.self_attn").eval()
    before = [(m.training, p) for m in model.modules() for p in m.parameters(recurse=False)]
    flags = [(p.requires_grad, p.grad) for p in model.parameters()]
    weights = found.rows.weights
    step(found, model, 1)
    assert found.measured_at == 1
    assert found.rows.weights is not weights
    assert [(m.training, p) for m in model.modules() for p in m.parameters(recurse=False)] == before
    assert not part.training and model.training
    assert [(p.requires_grad, p.grad) for p in model.parameters()] == flags


class TestTraining:
    @BOTH
    def test_the_first_step_reports_the_weighted_token_mean(self, base: Base, work: Path, granularity: str) -> None:
        made = opened(base, alpha=1.0, granularity=granularity)
        expected = float((losses(base, made.rows) * made.rows.weights).sum() / len(made.rows.weights))
        plain = float(losses(base, made.rows).mean())
        found = descend(base, made.rows, work, made, batch_size=24).curve[0]["loss"]
        assert found == pytest.approx(expected, rel=1e-5)
        assert abs(expected - plain) > 1e-2

    def test_one_tokens_weight_scales_its_share_alone(self, base: Base, work: Path) -> None:
        rows = encoded(base, fact_rows().head(4))
        each = losses(base, rows)
        for item in (0, 3, len(each) - 1):
            rows.weights = torch.ones(len(each))
            rows.weights[item] = 2.5
            found = descend(base, rows, work / str(item), batch_size=4).curve[0]["loss"]
            assert found == pytest.approx(float((each.sum() + 1.5 * each[item]) / len(each)), rel=1e-5)

    @BOTH
    def test_padding_and_accumulation_change_nothing(self, base: Base, work: Path, granularity: str) -> None:
        long = row("long", "The home of a person whose name nobody in this town knows is ", "Rome")
        rows = with_distances(table(*fact_rows().head(23).to_numpy().tolist(), long))  # three steps an epoch
        found = []
        for size, accumulation in ((8, 1), (2, 4)):
            made = opened(base, rows, alpha=1.0, granularity=granularity, refresh_steps=1, batch_size=3)
            place = work / str(size)
            shared = {"batch_size": size, "gradient_accumulation_steps": accumulation, "epochs": 3}
            fitted = descend(base, made.rows, place, made, **shared)
            assert made.measured_at == 8
            found.append(state(fitted.model))
        before = base.model().state_dict()
        assert max(float((found[0][key] - found[1][key]).abs().max()) for key in before) < 3e-6  # of nine steps
        assert max(float((found[0][key] - before[key]).abs().max()) for key in before) > 1e-3

    def test_the_other_sign_is_another_training(self, base: Base, work: Path) -> None:
        found = [
            state(train(base, Full(), ROWS, work / str(alpha), batch_size=8, weighed=plan(alpha=alpha)).model)
            for alpha in (0.5, -0.5)
        ]
        assert not equal_states(*found)

    def test_the_validation_loss_has_no_weights(self, base: Base, work: Path) -> None:
        made = opened(base, ROWS.head(6), alpha=1.0)
        given = encoded(base, fact_rows().head(6), [5.0] * 6)
        model = Full().attach(base.model())
        still = torch.optim.SGD(model.parameters(), lr=1e-9)
        options = recipe(learning_rate=1e-9)
        changes = {"validation": given, "task": base.task, "optimizer": still, "reweighting": made}
        fitted = fit(model, training(made.rows, work, options, **changes))
        validation = [entry["loss"] for entry in fitted.curve if entry["split"] == "validation"]
        assert validation == [pytest.approx(float(losses(base, given).mean()), rel=1e-4)]

    def test_it_measures_again_when_it_is_time(
        self, base: Base, work: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made, seen = opened(base, refresh_steps=2), []
        measure = made.measure
        assert measure is not None
        made.measure = lambda *args: seen.append(args[0].training) or measure(*args)  # type: ignore[func-returns-value]
        descend(base, made.rows, work, made, batch_size=4)
        assert seen == [False, False]  # after steps 2 and 4 of 6, in evaluation mode; after the last it is of no use
        assert made.measured_at == 4
        lines = [line for line in capsys.readouterr().err.splitlines() if "measured again" in line]
        assert [line.split(":")[:2] for line in lines] == [
            ["training", " weights measured again at step 2"],
            ["training", " weights measured again at step 4"],
        ]
        assert f"mean distance {made.distances.mean():.4f}, was " in lines[1]
        assert made.rows.weights.mean().item() == pytest.approx(1, abs=1e-6)

    def test_a_training_too_short_for_it_prints_so(
        self, base: Base, work: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = opened(base, refresh_steps=6)
        descend(base, made.rows, work, made, batch_size=4)
        assert made.measured_at == 0
        line = "training: runs.x.reweight.refresh_steps: 6 has no effect: training has 6 steps\n"
        assert line in capsys.readouterr().err


class TestResume:
    OPTIONS = {"epochs": 2, "batch_size": 4, "save_steps": 3, "lr_scheduler_type": "cosine"}  # noqa: RUF012
    METHOD = Lora(rank=2, alpha=4.0, dropout=0.1)

    def killed(self, base: Base, work: Path, weighed: Any, stop: int = 9) -> None:
        with (
            counted_calls(KnowledgeTrainer, "compute_loss", stop, KeyboardInterrupt()),  # type: ignore[arg-type]
            pytest.raises(KeyboardInterrupt),
        ):
            train(base, self.METHOD, ROWS, work, weighed=weighed, **self.OPTIONS)

    @BOTH
    @pytest.mark.parametrize(("every", "stop"), [(2, 9), (3, 7), (5, 12)])
    def test_killed_and_resumed_gives_the_same_bits(
        self, base: Base, work: Path, granularity: str, every: int, stop: int
    ) -> None:
        weighed = plan(alpha=1.0, granularity=granularity, refresh_steps=every)
        whole = train(base, self.METHOD, ROWS, work / "whole", weighed=weighed, **self.OPTIONS)
        self.killed(base, work / "parts", weighed, stop)
        parts = train(base, self.METHOD, ROWS, work / "parts", weighed=weighed, **self.OPTIONS)
        assert equal_states(state(parts.model), state(whole.model))
        assert parts.curve == whole.curve

    def test_losses_of_the_base_survive_a_kill(self, base: Base, work: Path) -> None:
        weighed = plan(form="stm")
        whole = train(base, self.METHOD, ROWS, work / "whole", weighed=weighed, **self.OPTIONS)
        self.killed(base, work / "parts", weighed)
        parts = train(base, self.METHOD, ROWS, work / "parts", weighed=weighed, **self.OPTIONS)
        assert equal_states(state(parts.model), state(whole.model))

    def test_the_weights_of_a_checkpoint_are_those_that_were_measured_last(self, base: Base, work: Path) -> None:
        weighed = plan(alpha=1.0, refresh_steps=2)
        self.killed(base, work, weighed)
        made = opened(base, alpha=1.0, refresh_steps=2)
        fresh = made.rows.weights
        made.load(work / "checkpoints" / "checkpoint-6")
        assert made.measured_at == 6
        assert not torch.equal(made.rows.weights, fresh)
        kept, distances = made.rows.weights, made.distances
        made._weigh(distances)
        assert torch.equal(made.rows.weights, kept)

    @pytest.mark.parametrize("broken", ["none", "half"])
    def test_a_checkpoint_without_its_weights_is_dropped(
        self, base: Base, work: Path, broken: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        weighed = plan(alpha=1.0, refresh_steps=2)
        whole = train(base, self.METHOD, ROWS, work / "whole", weighed=weighed, **self.OPTIONS)
        place = work / "parts" / "checkpoints"
        self.killed(base, work / "parts", weighed)
        shutil.copytree(place / "checkpoint-6", place / "checkpoint-9")
        written = place / "checkpoint-9" / STATE
        written.write_bytes(written.read_bytes()[:40])
        if broken == "none":
            written.unlink()
        parts = train(base, self.METHOD, ROWS, work / "parts", weighed=weighed, **self.OPTIONS)
        assert "training: goes on from checkpoint-6\n" in capsys.readouterr().err
        assert equal_states(state(parts.model), state(whole.model))

    def test_the_weights_lie_there_before_the_checkpoint_counts_as_whole(self, base: Base, work: Path) -> None:
        weighed = plan(alpha=1.0, refresh_steps=2)
        with (
            counted_calls(Reweighting, "save", 1, OSError("killed")),
            pytest.raises(OSError, match=r"^killed$"),
        ):
            train(base, self.METHOD, ROWS, work, weighed=weighed, **self.OPTIONS)
        assert not (work / "checkpoints" / "checkpoint-3" / "trainer_state.json").exists()


def test_on_a_decoders_classifier_too(decoder: Base, work: Path) -> None:
    rows = review_rows().assign(distance=np.linspace(0, 1, 24))
    weighed = plan(alpha=0.5, refresh_steps=2)
    one = train(decoder, Lora(rank=2, alpha=4.0), rows, work / "a", batch_size=8, weighed=weighed)
    two = train(decoder, Lora(rank=2, alpha=4.0), rows, work / "b", batch_size=8)
    assert not equal_states(state(one.model), state(two.model))
