"""Fisher information against its definition: one example after the other, by plain autograd, in float64."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.gradients import scorer as scoring
from knowtune.gradients.fisher import fisher_diagonal, parameters_in, row_traces
from knowtune.gradients.options import Scoring
from knowtune.methods.lora import Lora
from knowtune.models.masks import top_entries
from knowtune.tasks.base import Task
from knowtune.tasks.classification import Classification
from knowtune.tasks.next_token import NextToken
from knowtune.tasks.regression import Regression
from knowtune.text.encoded import IGNORE_INDEX, Encoded, Labelled
from tests.unit.gradients.definition import Sums, assert_equal, by_definition, diagonal, small, some_rows
from tests.unit.helpers import TASK, counted_calls, encoded, fact_rows, review_rows


class TestTheDefinition:
    @pytest.mark.parametrize("size", [1, 5, 32])
    def test_a_language_model_with_tied_embeddings(self, base: Base, size: int) -> None:
        model, rows = base.model(), encoded(base, fact_rows()).rows
        expected, traces = by_definition(model, rows, TASK, parameters_in(model))
        assert_equal(diagonal(base, batch_size=size), expected)
        found = row_traces(model, rows, TASK, parameters_in(model), Scoring(batch_size=size))
        assert found.dtype == torch.float64
        assert torch.allclose(found, traces, rtol=1e-5)
        whole = math.fsum(float(values.sum()) for values in expected.values())
        assert float(found.mean()) == pytest.approx(whole, rel=1e-5)

    @pytest.mark.parametrize("backbone", ["encoder", "decoder"])
    @pytest.mark.parametrize("task", [Classification(labels=["bad", "good"]), Regression()])
    def test_a_classifier(self, backbone: str, task: Task, request: pytest.FixtureRequest) -> None:
        on: Base = replace(request.getfixturevalue(backbone), task=task)
        torch.manual_seed(0)
        model = on.model()
        table = review_rows()
        if isinstance(task, Regression):
            table = table.assign(target=[f"{i % 3}.5" for i in range(len(table))])
        rows = encoded(on, table).rows
        expected, traces = by_definition(model, rows, task, parameters_in(model))
        assert_equal(fisher_diagonal(model, rows, task, parameters_in(model), Scoring(batch_size=7)), expected)
        found = row_traces(model, rows, task, parameters_in(model), Scoring(batch_size=7))
        assert torch.allclose(found, traces, rtol=1e-5)

    @pytest.mark.parametrize("kind", ["gpt2", "opt", "qwen2", "mixtral", "gemma"])
    def test_other_architectures(self, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Positions computed once for a batch, Conv1D, biases, expert tensors, scaled embeddings."""
        model = small(kind)
        expected, _ = by_definition(model, some_rows(), TASK, parameters_in(model))
        assert_equal(fisher_diagonal(model, some_rows(), TASK, parameters_in(model), Scoring(batch_size=4)), expected)
        slow = "one example at a time" in capsys.readouterr().err
        assert slow == (kind == "mixtral")

    @pytest.mark.parametrize("dora", [False, True])
    def test_an_adapters_parameters_alone(self, base: Base, dora: bool) -> None:
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(0)
        config = LoraConfig(
            task_type="CAUSAL_LM", r=3, target_modules="all-linear", init_lora_weights=False, use_dora=dora
        )
        model = get_peft_model(base.model(), config).eval()
        rows = encoded(base, fact_rows()).rows
        scope = parameters_in(model, adapter="default")
        assert scope and all("lora_" in name for name in scope)
        expected, _ = by_definition(model, rows, TASK, scope)
        assert_equal(fisher_diagonal(model, rows, TASK, scope, Scoring()), expected, 3e-5)

    def test_a_fresh_lora_has_all_its_mass_on_b(self, base: Base) -> None:
        """Known of methods/FISH-Tuning: dL/dA is zero while B = 0."""
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(base.model(), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear"))
        scope = parameters_in(model, adapter="default")
        found = fisher_diagonal(model, encoded(base, fact_rows()).rows, TASK, scope, Scoring())
        for name, values in found.items():
            assert bool(values.any()) == ("lora_B" in name)

    def test_it_is_not_the_square_of_the_mean_gradient(self, base: Base) -> None:
        model, rows = base.model().requires_grad_(True), encoded(base, fact_rows()).rows
        losses = [
            TASK.objective.losses(model(**TASK.inputs([r])).logits, TASK.objective.targets([r])).sum() / r.num_learned
            for r in rows
        ]
        torch.stack(losses).mean().backward()
        found = diagonal(base)
        name = "model.layers.0.mlp.up_proj.weight"
        naive = dict(model.named_parameters())[name].grad.square()  # type: ignore[union-attr]
        assert float(found[name].sum()) > 2 * float(naive.sum())

    def test_a_logistic_model_by_hand(self) -> None:
        """F_j = mean_n (p_n - y_n)^2 x_nj^2 for each class's weights."""

        class Logistic(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embed = torch.nn.Embedding(10, 3)
                self.linear = torch.nn.Linear(3, 2, bias=True)

            def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
                from types import SimpleNamespace

                return SimpleNamespace(logits=self.linear(self.embed(input_ids[:, 0])))

        torch.manual_seed(0)
        model, task = Logistic(), Classification(labels=["a", "b"])
        rows = [Labelled([i], None, float(i % 2)) for i in range(8)]
        x = model.embed.weight[:8].detach().double()
        p = model.linear(model.embed.weight[:8]).softmax(-1).detach().double()
        delta = p - torch.nn.functional.one_hot(torch.arange(8) % 2, 2)
        found = fisher_diagonal(model, rows, task, parameters_in(model), Scoring(batch_size=3))
        expected = (delta.square().unsqueeze(2) * x.square().unsqueeze(1)).mean(0)
        assert torch.allclose(found["linear.weight"].double(), expected, rtol=1e-5)
        assert torch.allclose(found["linear.bias"].double(), delta.square().mean(0), rtol=1e-5)
        exact = fisher_diagonal(model, rows, task, parameters_in(model), Scoring(labels="expected", batch_size=3))
        both = p[:, 0] * p[:, 1] ** 2 + p[:, 1] * p[:, 0] ** 2  # E_y (p_1 - [y = 1])^2, for either class
        assert torch.allclose(exact["linear.bias"].double(), both.mean().expand(2), rtol=1e-5)


class TestLaws:
    def test_never_negative_and_the_order_of_rows_does_not_matter(self, base: Base) -> None:
        rows = encoded(base, fact_rows()).rows
        one, other = diagonal(base, rows), diagonal(base, list(reversed(rows)))
        assert all(bool((values >= 0).all()) for values in one.values())
        assert_equal(other, {name: values.double() for name, values in one.items()}, 1e-6)

    def test_a_loss_times_c_gives_c_squared_and_the_same_mask(self, base: Base) -> None:
        class Tripled(NextToken):
            def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
                return 3 * super().losses(logits, targets)

        class TripledTask(type(TASK)):  # type: ignore[misc]
            objective: ClassVar[Any] = Tripled()

        one = diagonal(base)
        other = diagonal(replace(base, task=TripledTask()))
        assert_equal(other, {name: 9 * values.double() for name, values in one.items()}, 1e-6)
        masks = [top_entries(found, 500) for found in (one, other)]
        assert sum(len(set(masks[0][n].tolist()) ^ set(masks[1][n].tolist())) for n in one) <= 4

    def test_every_row_twice_leaves_the_mean(self, base: Base) -> None:
        rows = list(encoded(base, fact_rows()).rows)
        one = {name: values.double() for name, values in diagonal(base, rows).items()}
        assert_equal(diagonal(base, rows * 2), one, 1e-6)

    def test_a_mask_limits_the_traces(self, base: Base) -> None:
        model, rows = base.model(), encoded(base, fact_rows()).rows
        scope = parameters_in(model)
        generator = torch.Generator().manual_seed(0)
        mask = {n: (torch.rand(p.numel(), generator=generator) < 0.2).nonzero().flatten() for n, p in scope.items()}
        mask["model.norm.weight"] = mask["model.norm.weight"][:0]
        found = row_traces(model, rows, TASK, scope, Scoring(batch_size=5), mask)
        for number in (0, 7):
            alone, _ = by_definition(model, [rows[number]], TASK, scope)
            expected = sum(float(alone[name].flatten()[indices].sum()) for name, indices in mask.items())
            assert float(found[number]) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_added_up_in_float32(self, dtype: torch.dtype, base: Base, capsys: Any) -> None:
        """300 equal squares: a sum in bfloat16 would stand still at 256 of them."""
        model, (row, *_) = base.model().to(dtype), encoded(base, fact_rows()).rows
        expected, _ = by_definition(model, [row], TASK, parameters_in(model))
        assert_equal(diagonal(base, [row] * 300, model=model), expected, 2e-2)
        assert "one example at a time" not in capsys.readouterr().err

    def test_a_bound_of_the_loss_scales_the_gradient(self, base: Base) -> None:
        model, rows = base.model(), encoded(base, fact_rows()).rows
        scope = parameters_in(model)
        plain = row_traces(model, rows, TASK, scope, Scoring())
        objective = TASK.objective
        losses = torch.tensor([
            objective.losses(model(**TASK.inputs([r])).logits, objective.targets([r])).item() / r.num_learned
            for r in rows
        ])  # fmt: skip
        bound = float(losses.median())
        found = row_traces(model, rows, TASK, scope, Scoring(max_loss=bound))
        scale = (bound / losses.clamp(min=bound)).double() ** 2
        assert torch.allclose(found, plain * scale, rtol=1e-4)
        assert 0 < int((scale < 1).sum()) < len(rows)


class TestExpectedLabels:
    def test_over_all_classes(self, encoder: Base) -> None:
        torch.manual_seed(0)
        model = encoder.model()
        rows = encoded(encoder, review_rows()).rows
        scope, task = parameters_in(model), encoder.task
        shares = torch.cat([model(**task.inputs([row])).logits.softmax(-1).detach() for row in rows]).double()
        expected: Sums = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in scope.items()}
        for label in (0, 1):
            for number, row in enumerate(rows):
                alone, _ = by_definition(model, [replace(row, label=float(label))], task, scope)
                for name, values in alone.items():
                    expected[name] += shares[number, label] * values / len(rows)
        assert_equal(fisher_diagonal(model, rows, task, scope, Scoring(labels="expected", batch_size=6)), expected)

    def test_of_a_row_do_not_depend_on_other_rows(self, base: Base, tmp_path: Path, monkeypatch: Any) -> None:
        rows = list(encoded(base, fact_rows()).rows)
        whole = diagonal(base, rows, labels="expected", draws=2, batch_size=32)
        exact = {name: values.double() for name, values in whole.items()}
        assert_equal(diagonal(base, rows[::-1], labels="expected", draws=2, batch_size=3), exact, 1e-5)
        monkeypatch.setattr(scoring, "SAVE_SECONDS", -1.0)
        options = {"labels": "expected", "draws": 2, "batch_size": 3, "work": tmp_path}
        with counted_calls(scoring.Scorer, "_add", 6, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            diagonal(base, rows, **options)
        assert_equal(diagonal(base, rows, **options), exact, 1e-5)

    def test_of_a_language_model_are_drawn_by_the_seed(self, base: Base) -> None:
        one, again, other = (diagonal(base, labels="expected", seed=seed) for seed in (0, 0, 1))
        name = "model.layers.1.mlp.down_proj.weight"
        assert torch.equal(one[name], again[name])
        assert not torch.equal(one[name], other[name])

    def test_are_drawn_where_something_is_learned_from_the_model(self) -> None:
        logits = torch.full((2, 4, 5), -50.0)
        logits[0, :, 3] = logits[1, :, 4] = 50.0
        targets = torch.tensor([[IGNORE_INDEX, IGNORE_INDEX, 1, 1], [IGNORE_INDEX, 2, 2, IGNORE_INDEX]])
        generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        drawn = list(TASK.objective.expected_targets(logits, targets, 2, generators))
        assert len(drawn) == 2
        for labels, weights in drawn:
            assert labels.tolist() == [[IGNORE_INDEX, IGNORE_INDEX, 3, 3], [IGNORE_INDEX, 4, 4, IGNORE_INDEX]]
            assert weights.tolist() == [0.5, 0.5]

    def test_more_draws_come_closer_to_the_exact_information(self, base: Base) -> None:
        """Over the vocabulary of one target token the expectation is a finite sum."""
        model, scope = base.model(), parameters_in(base.model(), "model.norm.weight")
        scope = parameters_in(model, "model.norm.weight")
        row = Encoded([1, 5, 9, 30, 7], 4, 5)
        shares = model(**TASK.inputs([row])).logits[0, 3].softmax(-1).detach().double()
        exact = torch.zeros_like(scope["model.norm.weight"], dtype=torch.float64)
        for token in range(len(shares)):
            alone, _ = by_definition(model, [Encoded([1, 5, 9, 30, token], 4, 5)], TASK, scope)
            exact += shares[token] * alone["model.norm.weight"]
        options = {"ids": [str(number) for number in range(8)]}  # equal rows without a name of their own draw the same
        many = Scoring(labels="expected", draws=100, batch_size=8)
        found = fisher_diagonal(model, [row] * 8, TASK, scope, many, **options)
        assert float((found["model.norm.weight"].double() - exact).norm() / exact.norm()) < 0.15


class TestBadInput:
    def test_a_pattern_that_matches_nothing(self, base: Base) -> None:
        with pytest.raises(UserError) as caught:
            parameters_in(base.model(), ["*.mlp.*", "model.layers.0.mlp.upp_proj.weight"])
        assert str(caught.value).startswith(
            "pattern: 'model.layers.0.mlp.upp_proj.weight' matches no parameter; did you mean "
            "'model.layers.0.mlp.up_proj.weight'?; there are 20, e.g. model.embed_tokens.weight"
        )

    @pytest.mark.parametrize(
        ("pattern", "meant"),
        [("*.mpl.*", "*.mlp.*"), ("*.self_atn.*", "*.self_attn.*"), ("*.layer.?.mlp.up*", "*.layers.?.mlp.up*")],
    )
    def test_the_glob_that_was_meant(self, pattern: str, meant: str, base: Base) -> None:
        with pytest.raises(UserError, match=re.escape(f"{pattern!r} matches no parameter; did you mean {meant!r}?")):
            parameters_in(base.model(), pattern)

    def test_nothing_is_meant_by_anything(self, base: Base) -> None:
        with pytest.raises(UserError) as caught:
            parameters_in(base.model(), "*.zzzz.*")
        assert "did you mean" not in str(caught.value)

    def test_an_adapter_that_is_not_active(self, base: Base) -> None:
        model = Lora(rank=2, alpha=4).attach(base.model())
        model.add_adapter("two", model.peft_config["default"])
        with pytest.raises(UserError, match=r"adapter 'two' is frozen or not active; `model.set_adapter\('two'\)`"):
            parameters_in(model, adapter="two")
        model.set_adapter("two")
        assert parameters_in(model, adapter="two")

    def test_a_head_is_no_part_of_an_adapters_scope(self, encoder: Base) -> None:
        model = Lora(rank=2, alpha=4).attach(encoder.model())
        assert any("modules_to_save" in name for name, p in model.named_parameters() if p.requires_grad)
        assert all("lora_" in name for name in parameters_in(model, adapter="default"))

    def test_a_pattern_limits_the_scope(self, base: Base) -> None:
        found = parameters_in(base.model(), ["*.0.mlp.*", "*norm*"])
        assert len(found) == 8
        assert list(found) == [name for name in parameters_in(base.model()) if name in found]

    def test_no_such_adapter(self, base: Base) -> None:
        with pytest.raises(UserError, match="scope: no adapter is called 'x'; attached: none; attach one first"):
            parameters_in(base.model(), adapter="x")

    def test_parameters_without_values(self) -> None:
        with torch.device("meta"):
            model = torch.nn.Linear(2, 2)
        with pytest.raises(UserError, match=r"2 parameters are on the meta device, e\.g\. weight: they have no values"):
            parameters_in(model)
