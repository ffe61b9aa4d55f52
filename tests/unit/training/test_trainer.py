from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.full import Full
from knowtune.text.encoded import IGNORE_INDEX
from knowtune.training.dataset import Rows, collate
from knowtune.training.fit import Fitted, fit, seed_everything
from tests.unit.helpers import (
    TASK,
    encoded,
    fact_rows,
    recipe,
    row,
    table,
    train,
    training,
)


class Pull(Full):
    """Full fine-tuning with a penalty of its own."""

    strength: float

    def penalty(self, model: torch.nn.Module) -> torch.Tensor:
        return self.strength * model.model.norm.weight.square().sum()  # type: ignore[union-attr, operator, no-any-return]


class Grouped(Full):
    """Full fine-tuning that moves the last norm alone."""

    def parameter_groups(self, model: torch.nn.Module) -> list[dict[str, Any]]:
        return [{"params": [model.model.norm.weight], "lr": 0.25}]  # type: ignore[union-attr]


class Sgd(torch.optim.SGD):
    """Plain gradient descent: what a step does is the gradient itself."""


def descend(base: Base, rows: Rows, work: Path, method: Full | None = None, **changes: Any) -> Fitted:
    seed_everything(0)
    model = Full().attach(base.model())
    options = {"max_grad_norm": 1e9, "learning_rate": 0.1, **changes}
    sgd = Sgd(model.parameters(), lr=options["learning_rate"])
    return fit(model, training(rows, work, recipe(**options), method=method, optimizer=sgd))


def moved(base: Base, fitted: Fitted) -> torch.Tensor:
    before = base.model().state_dict()
    return torch.cat([(t - before[name]).flatten() for name, t in fitted.model.state_dict().items()])


def plain_loss(base: Base, rows: Rows, weights: list[float] | None = None) -> float:
    """Weighted token-mean cross-entropy, row by row and without padding."""
    model, total, count = base.model(), 0.0, 0
    for row_, weight in zip(rows.rows, weights or [1.0] * len(rows), strict=True):
        labels = torch.tensor(row_.labels)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row_.input_ids])).logits[0]
        total += weight * float(cross_entropy(logits[:-1], labels[1:], ignore_index=IGNORE_INDEX, reduction="sum"))
        count += int((labels[1:] != IGNORE_INDEX).sum())
    return total / count


class TestLoss:
    def test_the_first_step_reports_the_plain_token_mean(self, base: Base, work: Path) -> None:
        rows = encoded(base, fact_rows().head(8))
        fitted = descend(base, rows, work, batch_size=8)
        assert [entry["step"] for entry in fitted.curve] == [1]
        assert fitted.curve[0]["split"] == "train"
        assert fitted.curve[0]["loss"] == pytest.approx(plain_loss(base, rows), rel=1e-5)

    def test_the_first_step_is_the_plain_gradient(self, base: Base, work: Path) -> None:
        rows = encoded(base, fact_rows().head(8))
        fitted = descend(base, rows, work, batch_size=8)
        model = base.model()
        batch = collate([rows[i] for i in range(8)], TASK)
        # transformers' own loss, which is the token mean over the shifted labels
        model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]
        ).loss.backward()
        gradient = dict(model.named_parameters())["model.norm.weight"].grad
        assert gradient is not None
        step = fitted.model.model.norm.weight - base.model().model.norm.weight  # type: ignore[union-attr]
        assert torch.allclose(step, -0.1 * gradient, atol=1e-7)

    def test_weights_scale_the_share_of_a_row(self, base: Base, work: Path) -> None:
        rows = fact_rows().head(4)
        plain = plain_loss(base, encoded(base, rows))
        for number in (0, 3):
            weights = [1.0] * 4
            weights[number] = 2.0
            doubled = descend(base, encoded(base, rows, weights), work / str(number), batch_size=4).curve[0]["loss"]
            weights[number] = 0.0
            without = descend(base, encoded(base, rows, weights), work / f"{number}-0", batch_size=4).curve[0]["loss"]
            assert isinstance(doubled, float) and isinstance(without, float)
            assert plain - without > 0
            assert doubled - plain == pytest.approx(plain - without, rel=1e-3)
            weights[number] = 2.0
            assert doubled == pytest.approx(plain_loss(base, encoded(base, rows), weights), rel=1e-5)

    def test_padding_changes_nothing(self, base: Base, work: Path) -> None:
        long = row("long", "The home of a person whose name nobody in this town knows is", "Rome")
        rows = table(*fact_rows().head(3).to_numpy().tolist(), long)
        one = descend(base, encoded(base, rows), work / "one", batch_size=4)
        four = descend(base, encoded(base, rows), work / "four", batch_size=1, gradient_accumulation_steps=4)
        assert (moved(base, one) - moved(base, four)).abs().max() < 1e-6
        assert moved(base, one).abs().max() > 1e-3

    def test_accumulation_changes_nothing(self, base: Base, work: Path) -> None:
        rows = encoded(base, fact_rows().head(8))
        one = descend(base, rows, work / "one", batch_size=8, epochs=3, max_grad_norm=1.0)
        shared = {"batch_size": 2, "gradient_accumulation_steps": 4}
        four = descend(base, rows, work / "four", epochs=3, max_grad_norm=1.0, **shared)
        assert one.num_steps == four.num_steps == 3
        assert (moved(base, one) - moved(base, four)).abs().max() < 1e-6
        assert moved(base, one).abs().max() > 1e-3
        assert [e["loss"] for e in one.curve] == pytest.approx([e["loss"] for e in four.curve], rel=1e-5)

    def test_a_last_step_of_fewer_batches_is_a_token_mean_too(self, base: Base, work: Path) -> None:
        rows = fact_rows().head(6)
        fitted = descend(base, encoded(base, rows), work, batch_size=2, gradient_accumulation_steps=4)
        assert fitted.num_steps == 1
        assert fitted.curve[0]["loss"] == pytest.approx(plain_loss(base, encoded(base, rows)), rel=1e-5)

    @pytest.mark.parametrize(("batch_size", "accumulation", "num"), [(8, 1, 8), (2, 4, 8), (2, 4, 6)])
    def test_a_penalty_enters_once(self, base: Base, work: Path, batch_size: int, accumulation: int, num: int) -> None:
        rows = encoded(base, fact_rows().head(num), [0.0] * num)
        shared = {"batch_size": batch_size, "gradient_accumulation_steps": accumulation}
        fitted = descend(base, rows, work, Pull(strength=0.5), **shared)
        norm = base.model().model.norm.weight.detach()
        assert fitted.num_steps == 1
        # loss = 0.5 |norm|^2, gradient = norm, one step of rate 0.1
        assert torch.allclose(fitted.model.model.norm.weight, 0.9 * norm, atol=1e-6)  # type: ignore[union-attr]
        assert fitted.curve[0]["loss"] == pytest.approx(0.5 * float(norm.square().sum()), rel=1e-5)

    def test_a_penalty_is_made_before_the_forward_pass(self, base: Base, work: Path) -> None:
        """So its backward pass comes last."""
        order: list[str] = []

        class Noting(Pull):
            def penalty(self, model: torch.nn.Module) -> torch.Tensor:
                order.append("penalty")
                model.register_forward_pre_hook(lambda *_: order.append("forward"))
                return super().penalty(model)

        descend(base, encoded(base, fact_rows().head(2)), work, Noting(strength=0.5), batch_size=2)
        assert order == ["penalty", "forward"]

    def test_the_validation_loss_has_no_penalty(self, base: Base, work: Path) -> None:
        rows = encoded(base, fact_rows().head(4))
        seed_everything(0)
        model = Full().attach(base.model())
        frozen = Sgd(model.parameters(), lr=1e-9)
        options = recipe(learning_rate=1e-9)
        changes = {"validation": rows, "method": Pull(strength=9.0), "optimizer": frozen}
        fitted = fit(model, training(rows, work, options, **changes))
        validation = [entry for entry in fitted.curve if entry["split"] == "validation"]
        assert [entry["step"] for entry in validation] == [1]
        assert validation[0]["loss"] == pytest.approx(plain_loss(base, rows), rel=1e-4)

    def test_the_validation_loss_does_not_depend_on_the_batches(
        self, base: Base, work: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("knowtune.training.arguments.VALIDATED", 1)  # no larger batches than a training's
        rows = fact_rows()
        found = []
        for size in (1, 5, 24):
            model = Full().attach(base.model())
            frozen = Sgd(model.parameters(), lr=1e-9)
            one = encoded(base, rows.head(1))
            options = recipe(learning_rate=1e-9, batch_size=size)
            place = work / str(size)
            fitted = fit(model, training(one, place, options, validation=encoded(base, rows), optimizer=frozen))
            found += [entry["loss"] for entry in fitted.curve if entry["split"] == "validation"]
        assert found == pytest.approx([plain_loss(base, encoded(base, rows))] * 3, rel=1e-4)

    def test_a_method_may_group_its_parameters(self, base: Base, work: Path) -> None:
        fitted = train(base, Grouped(), fact_rows().head(4), work)
        before, after = base.model().state_dict(), fitted.model.state_dict()
        assert {n for n in before if not torch.equal(before[n], after[n])} == {"model.norm.weight"}
        # the first step of AdamW is the learning rate, in the sign of the gradient; the recipe's weight decay is 0
        step = (after["model.norm.weight"] - before["model.norm.weight"]).abs()
        assert step.max() == pytest.approx(0.25, rel=1e-3)


class TestBadNumbers:
    def test_a_loss_that_is_not_finite_names_step_and_rows(self, base: Base, work: Path) -> None:
        model = Full().attach(base.model())
        rows = encoded(base, fact_rows().head(8))
        poisoned = rows.rows[5].input_ids[-3]
        hit = [i for i, r in zip(rows.ids, rows.rows, strict=True) if poisoned in r.input_ids]
        assert 0 < len(hit) < 8
        embedding = model.get_input_embeddings()  # type: ignore[operator]
        embedding.register_forward_hook(
            lambda _, args, out: out + torch.where(args[0] == poisoned, torch.nan, 0.0).unsqueeze(-1)
        )
        with pytest.raises(UserError) as caught:
            fit(model, training(rows, work, recipe(batch_size=8)))
        message = str(caught.value)
        assert message.startswith("the loss is not finite at step 1; rows: ")
        named = message.removeprefix("the loss is not finite at step 1; rows: ").partition(". ")[0].split(", ")
        assert sorted(named) == sorted(hit)[:5]
        assert message.endswith(". Lower the learning rate, raise warmup_steps, or look at these rows")

    def test_a_loss_that_leaves_the_finite_later(self, base: Base, work: Path) -> None:
        model, calls = Full().attach(base.model()), [0]

        def break_the_second(_: Any, args: Any, out: torch.Tensor) -> torch.Tensor:
            calls[0] += 1
            return out * (torch.nan if calls[0] == 2 else 1.0)

        model.get_input_embeddings().register_forward_hook(break_the_second)  # type: ignore[operator]
        with pytest.raises(UserError, match=r"^the loss is not finite at step 2; rows: (\w+:\w+:0(, |\.)){4}"):
            fit(model, training(encoded(base, fact_rows().head(8)), work))

    def test_a_weight_that_is_not_finite_names_its_row(self, base: Base, work: Path) -> None:
        rows = encoded(base, fact_rows().head(4), [1.0, math.inf, 1.0, 1.0])
        with pytest.raises(UserError) as caught:
            descend(base, rows, work, batch_size=4)
        assert rows.ids[1] in str(caught.value)

    def test_a_penalty_that_is_not_finite_stops_at_its_step(self, base: Base, work: Path) -> None:
        rows = encoded(base, fact_rows().head(4))  # one step: nothing would come after it
        with pytest.raises(UserError, match=r"^the (loss|penalty) is not finite at step 1"):
            descend(base, rows, work, Pull(strength=math.nan), batch_size=4)


class _With:
    """A base whose model is another one."""

    def __init__(self, base: Base, model: torch.nn.Module) -> None:
        self.base, self.trained = base, model

    def model(self) -> torch.nn.Module:
        return self.trained


def test_the_best_epoch_can_be_kept(base: Base, work: Path) -> None:
    rows, other = fact_rows().head(4), fact_rows().tail(4)
    seed_everything(0)
    model = Full().attach(base.model())
    options = recipe(epochs=4, learning_rate=0.05, load_best_model_at_end=True)
    fitted = fit(model, training(encoded(base, rows), work, options, validation=encoded(base, other)))
    losses = [entry["loss"] for entry in fitted.curve if entry["split"] == "validation"]
    assert len(losses) == 4
    assert min(losses) < losses[-1]
    kept = Base(base.card, base.folder, base.compute, TASK)
    assert plain_loss(_With(kept, fitted.model), encoded(base, other)) == pytest.approx(min(losses), rel=1e-4)  # type: ignore[arg-type]
