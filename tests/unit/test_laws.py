"""The laws that every member of every family keeps; a new line in a registry is a new test."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from knowtune.checkpoints.base import Base
from knowtune.data.contract import ROW_COLUMNS
from knowtune.evaluation.metrics import METRICS
from knowtune.evaluation.metrics.base import Metric
from knowtune.filters import FILTERS
from knowtune.filters.base import Filter, Seen
from knowtune.filters.chain import Limits, run_filters
from knowtune.merging.mixtures import MIXTURES
from knowtune.merging.mixtures.base import Mixture, Position
from knowtune.methods import METHODS
from knowtune.methods.base import Method
from knowtune.models.forward import forward
from knowtune.models.masks import num_entries
from knowtune.registry import Member, member_class
from knowtune.selectors import SELECTORS
from knowtune.selectors.base import Choice, Selector
from knowtune.selectors.budgets import Budgeted
from knowtune.semantics.representations import REPRESENTATIONS
from knowtune.semantics.representations.base import Representation
from knowtune.tasks import TASKS
from knowtune.tasks.base import Task
from knowtune.training.fit import fit
from tests.unit.evaluation.metrics.tables import JUDGED, best, emptied, reversed_, worst
from tests.unit.helpers import (
    encoded,
    equal_states,
    fact_rows,
    plan,
    recipe,
    review_rows,
    row,
    seen_of,
    state,
    table,
    train,
    training,
    with_distances,
)
from tests.unit.selectors.oracle import Table, logistic

FAMILIES: list[tuple[str, type[Member], dict[str, str]]] = [
    ("filter", Filter, FILTERS),
    ("selector", Selector, SELECTORS),
    ("method", Method, METHODS),
    ("mixture", Mixture, MIXTURES),
    ("metric", Metric, METRICS),
    ("task", Task, TASKS),
    ("representation", Representation, REPRESENTATIONS),
]
MEMBERS = [(family, kind, registry, name) for family, kind, registry in FAMILIES for name in registry]
# What a member needs beside its defaults, so that it can be made.
NEEDS: dict[tuple[str, str], dict[str, Any]] = {
    ("filter", "relations"): {"only": ["colour"]},
    ("method", "lora"): {"rank": 2, "alpha": 4.0},
    ("method", "kasa"): {"rank": 2, "alpha": 4.0},
    ("method", "sk_tuning"): {"text": "Ada lives in "},
    ("method", "peft"): {"type": "vera", "r": 8},
    ("method", "imsm"): {"inner": {"method": "lora", "options": {"rank": 2, "alpha": 4.0}}},
    ("task", "classification"): {"labels": ["bad", "good"]},
    ("selector", "magnitude"): {"budget": 0.13},
    ("selector", "fish"): {"budget": 0.13},
    ("selector", "ird"): {"budget": 0.13, "samples": 5},
}


def member(family: str, registry: dict[str, str], name: str, **options: Any) -> Any:
    return member_class(registry, family, name)(**{**NEEDS.get((family, name), {}), **options})


@pytest.mark.parametrize(("family", "kind", "registry", "name"), MEMBERS, ids=lambda v: v if isinstance(v, str) else "")
class TestEveryMember:
    def test_it_is_one_of_its_family(self, family: str, kind: type, registry: dict[str, str], name: str) -> None:
        found = member_class(registry, family, name)
        assert issubclass(found, kind)
        assert not inspect.isabstract(found)
        assert found is not kind

    def test_it_lies_in_a_file_of_its_own(self, family: str, kind: type, registry: dict[str, str], name: str) -> None:
        module, _, attribute = registry[name].partition(":")
        folder = kind.__module__.removesuffix(".base")
        assert module in (f"{folder}.{name}", f"{folder}.{name}.method")  # a method may have a folder of its own
        assert member_class(registry, family, name).__name__ == attribute

    def test_it_refuses_an_unknown_option(self, family: str, kind: type, registry: dict[str, str], name: str) -> None:
        if (family, name) == ("method", "peft"):
            problems = member(family, registry, name, zzz=1).problems("run")
            assert [p.where for p in problems] == ["run.options.zzz"]
        else:
            with pytest.raises(ValidationError, match=r"zzz\n  Extra inputs are not permitted"):
                member(family, registry, name, zzz=1)

    def test_it_cannot_be_changed(self, family: str, kind: type, registry: dict[str, str], name: str) -> None:
        made = member(family, registry, name)
        with pytest.raises(ValidationError, match="frozen"):
            setattr(made, next(iter(type(made).model_fields), "model_config"), None)

    def test_it_says_what_it_is(self, family: str, kind: type, registry: dict[str, str], name: str) -> None:
        found = member_class(registry, family, name)
        assert found.__doc__ not in (None, "", kind.__doc__)
        assert inspect.getmodule(found).__doc__  # type: ignore[union-attr]
        for option, field in found.model_fields.items():
            assert field.description, f"{name}.{option} has no description"


ALL = Limits(allow_lost=True)


@pytest.mark.parametrize("name", FILTERS)
class TestEveryFilter:
    def rows(self) -> pd.DataFrame:
        rows = fact_rows()
        bad = table(row("x1", "p", ""), row("x2", "The hat of Ada is", "blue"), row("x3", "Ada lives in", "Rome"))
        return pd.concat([rows, bad]).set_axis(range(10, 10 + len(rows) + 3))

    def test_reasons_stand_on_the_index_of_the_rows(self, name: str) -> None:
        rows = self.rows()
        found = member("filter", FILTERS, name).reasons(rows, seen_of(rows))
        assert found.index.equals(rows.index)
        assert all(isinstance(reason, str) for reason in found)

    def test_rows_in_are_kept_and_dropped(self, name: str) -> None:
        rows = self.rows()
        kept, dropped = run_filters(rows, seen_of(rows), [(name, member("filter", FILTERS, name))], "f", ALL)
        assert len(kept) + len(dropped) == len(rows)
        assert sorted([*kept["id"], *dropped["id"]]) == sorted(rows["id"])
        assert (dropped["reason"] != "").all()

    def test_the_rows_are_not_touched(self, name: str) -> None:
        rows = self.rows()
        seen = seen_of(rows)
        member("filter", FILTERS, name).reasons(rows, seen)
        pd.testing.assert_frame_equal(rows, self.rows())
        pd.testing.assert_frame_equal(seen.answers, seen_of(rows).answers)

    def test_twice_the_same(self, name: str) -> None:
        rows = self.rows()
        one, two = (member("filter", FILTERS, name).reasons(rows, seen_of(rows)) for _ in range(2))
        pd.testing.assert_series_equal(one, two)

    def test_the_order_of_the_rows_does_not_matter(self, name: str) -> None:
        rows = self.rows()
        turned = rows.sample(frac=1, random_state=3)
        one, two = (member("filter", FILTERS, name).reasons(r, seen_of(r)) for r in (rows, turned))
        pd.testing.assert_series_equal(one, two.sort_index())

    def test_one_row_alone_stays(self, name: str) -> None:
        rows = self.rows().iloc[[2]]
        assert member("filter", FILTERS, name).reasons(rows, seen_of(rows, [0.7])).tolist() == [""]

    def test_it_reads_only_the_columns_that_it_names(self, name: str) -> None:
        found = member("filter", FILTERS, name)
        rows = self.rows()
        columns = ROW_COLUMNS if found.reads is None else ["id", "relation", "target", *found.reads]
        few = rows[[column for column in ROW_COLUMNS if column in columns]]
        pd.testing.assert_series_equal(found.reasons(few, seen_of(few)), found.reasons(rows, seen_of(rows)))

    def test_it_needs_only_what_it_says(self, name: str) -> None:
        found = member("filter", FILTERS, name)
        rows = self.rows()
        whole = seen_of(rows)
        answers = whole.answers if "distance" in found.needs else whole.answers.assign(distance=float("nan"))
        less = Seen(answers, whole.sketches if "sketches" in found.needs else None)
        pd.testing.assert_series_equal(found.reasons(rows, less), found.reasons(rows, whole))

    def test_a_share_is_rounded_up_and_all_is_all(self, name: str) -> None:
        found = member_class(FILTERS, "filter", name)
        if not found.ranks:
            assert "keep" not in found.model_fields
            return
        rows = self.rows()
        for keep, expected in ((1, 27), (0.5, 14), (1 / 3, 9), (1e-9, 1)):
            assert (found(keep=keep).reasons(rows, seen_of(rows)) == "").sum() == expected, keep
        for keep in (0, -0.1, 1.01, float("nan"), "1"):
            with pytest.raises(ValidationError, match="keep"):
                found(keep=keep)

    def test_a_ranking_is_done_within_strata(self, name: str) -> None:
        found = member("filter", FILTERS, name)
        rows = self.rows()
        kept, _ = run_filters(rows, seen_of(rows), [(name, found)], "f", Limits(stratify="relation", allow_lost=True))
        if found.ranks:
            assert kept["relation"].value_counts().to_dict() == {"colour": 11, "town": 11, "r": 3}
        else:
            assert len(kept) == (found.reasons(rows, seen_of(rows)) == "").sum()


SHAPES = {"a": (6, 5), "none": (0, 3), "b": (70,)}
BUDGETED = [name for name in SELECTORS if issubclass(member_class(SELECTORS, "selector", name), Budgeted)]
SELECTIONS: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in SELECTORS]
SELECTIONS += [(name, {"samples": 5, "budget": 0.13, "stratify": "relation"}) for name in BUDGETED]
SELECTIONS += [(name, {"samples": 24, "budget": 0.13, "granularity": "parameter"}) for name in BUDGETED]
SELECTIONS += [("ird", {"order": "samples_first", "sample_scope": "all", "rounds": 3, "search": True})]


@pytest.mark.parametrize(("name", "options"), SELECTIONS)
class TestEverySelector:
    def pool(self, **options: Any) -> Table:
        pool = logistic(shapes=SHAPES, judge=lambda rows, mask: 0.5, **options)  # a search ends at the last pair
        pool.rows = pool.rows.set_axis(range(7, 31))
        return pool

    def choose(self, name: str, options: dict[str, Any], seed: int = 0, **pool: Any) -> Choice:
        found: Choice = member("selector", SELECTORS, name, **options).choose(self.pool(**pool), seed)
        return found

    def test_scores_and_choice_stand_on_the_index_of_the_rows(self, name: str, options: dict[str, Any]) -> None:
        found = self.choose(name, options)
        assert found.scores.index.tolist() == found.chosen.index.tolist() == list(range(7, 31))
        assert found.scores.dtype == float
        assert found.chosen.dtype == bool

    def test_it_chooses_as_many_rows_as_it_says(self, name: str, options: dict[str, Any]) -> None:
        made = member("selector", SELECTORS, name, **options)
        found = self.choose(name, options)
        assert made.chooses_rows or found.chosen.all()
        if isinstance(made, Budgeted):
            assert int(found.chosen.sum()) == (made.samples or 24)
        if options.get("stratify"):
            assert found.chosen.groupby(self.pool().rows["relation"]).sum().tolist() == [3, 2]

    def test_same_seed_same_choice(self, name: str, options: dict[str, Any]) -> None:
        one, two = self.choose(name, options, seed=4), self.choose(name, options, seed=4)
        pd.testing.assert_series_equal(one.scores, two.scores)
        pd.testing.assert_series_equal(one.chosen, two.chosen)
        assert one.trace == two.trace
        assert (one.mask is None) == (two.mask is None)
        assert one.mask is None or equal_states(one.mask, two.mask)

    @pytest.mark.parametrize("reserved", [0, 10])
    def test_a_mask_is_made_where_it_says_so_and_holds_the_budget(
        self, name: str, options: dict[str, Any], reserved: int
    ) -> None:
        made = member("selector", SELECTORS, name, **options)
        found = self.choose(name, options, num_reserved=reserved)
        assert (found.mask is not None) == made.masks == (found.layers is not None)
        if found.mask is not None and found.layers is not None:
            assert list(found.mask) == list(SHAPES) == found.layers["parameter"].tolist()
            num = {0: 13, 10: 15 - 10}[reserved]  # 0.13 of 100, and ceil(0.13 of 110) with a head of 10
            assert sum(len(indices) for indices in found.mask.values()) == found.layers["kept"].sum() == num
            for indices in found.mask.values():
                assert indices.dtype == torch.int64
                assert torch.equal(indices, indices.unique())

    def test_its_trace_ends_with_the_choice_in_plain_numbers(self, name: str, options: dict[str, Any]) -> None:
        found = self.choose(name, options)
        assert json.loads(json.dumps(found.trace, allow_nan=False)) == found.trace
        assert [line["round"] for line in found.trace] == list(range(1, len(found.trace) + 1))
        last = {"num_rows": int(found.chosen.sum()), "num_parameters": found.mask and num_entries(found.mask)}
        assert last.items() <= found.trace[-1].items()

    def test_the_pool_is_not_touched(self, name: str, options: dict[str, Any]) -> None:
        pool, again = self.pool(), self.pool()
        member("selector", SELECTORS, name, **options).choose(pool, 0)
        pd.testing.assert_frame_equal(pool.rows, again.rows)
        assert pool.gradients.tolist() == again.gradients.tolist()
        assert equal_states(dict(pool.weights()), dict(again.weights()))

    def test_the_global_generators_are_left_alone(self, name: str, options: dict[str, Any]) -> None:
        before = torch.get_rng_state()
        self.choose(name, options)
        assert torch.equal(torch.get_rng_state(), before)


WHOLE = [("average", {}), ("ties", {"density": 1.0}), ("dare", {"density": 1.0})]
WHOLE += [("dare", {"density": 1.0, "elect_sign": True})]
WHOLE += [("interpolate", {"alpha": 1.0}), ("lines", {"alpha": 1.0, "beta": 0.0})]


@pytest.mark.parametrize(("name", "options"), [(name, {}) for name in MIXTURES] + WHOLE)
class TestEveryMixture:
    def changes(self) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(5, 8, generator=generator) for _ in range(3)]

    def test_shape_and_type_stay(self, name: str, options: dict[str, Any]) -> None:
        found = member("mixture", MIXTURES, name, **options).combine(self.changes(), torch.tensor([0.5, 0.3, 0.2]), 0)
        assert found.shape == (5, 8)
        assert found.dtype == torch.float32
        assert found.isfinite().all()

    def test_same_seed_same_mixture(self, name: str, options: dict[str, Any]) -> None:
        made = member("mixture", MIXTURES, name, **options)
        one, two = (made.combine(self.changes(), torch.tensor([0.5, 0.3, 0.2]), 5) for _ in range(2))
        assert torch.equal(one, two)

    def test_the_changes_are_not_touched(self, name: str, options: dict[str, Any]) -> None:
        changes = self.changes()
        member("mixture", MIXTURES, name, **options).combine(changes, torch.tensor([0.5, 0.3, 0.2]), 0)
        assert all(torch.equal(a, b) for a, b in zip(changes, self.changes(), strict=True))

    def test_the_global_generator_is_left_alone(self, name: str, options: dict[str, Any]) -> None:
        before = torch.get_rng_state()
        member("mixture", MIXTURES, name, **options).combine(self.changes(), torch.ones(3) / 3, 0)
        assert torch.equal(torch.get_rng_state(), before)

    def test_no_change_mixes_to_no_change(self, name: str, options: dict[str, Any]) -> None:
        none = [torch.zeros(4, 4)] * 2
        found = member("mixture", MIXTURES, name, **options).combine(none, torch.tensor([0.5, 0.5]), 0)
        assert torch.equal(found, torch.zeros(4, 4))


@pytest.mark.parametrize("name", MIXTURES)
def test_every_mixture_has_a_case_that_keeps_everything(name: str) -> None:
    assert name in {case for case, _ in WHOLE}


@pytest.mark.parametrize(("name", "options"), WHOLE)
@pytest.mark.parametrize("num", [1, 2])
def test_mixing_a_model_with_itself_gives_it_back(name: str, options: dict[str, Any], num: int) -> None:
    change = torch.randn(6, 7, generator=torch.Generator().manual_seed(1))
    found = member("mixture", MIXTURES, name, **options).combine([change] * num, torch.ones(num) / num, 3)
    assert torch.equal(found, change)
    positions = [Position(1, 2), Position(2, 2), Position(None, 0), Position(None, 0, in_head=True)]
    assert [member("mixture", MIXTURES, name, **options).kept_share(at) for at in positions] == [1.0] * 4


@pytest.mark.parametrize("name", METRICS)
class TestEveryMetric:
    def test_a_number_from_examples_and_none_from_none(self, name: str) -> None:
        made = member("metric", METRICS, name)
        for task in made.tasks:
            assert type(made.compute(JUDGED[task])) is float
            assert made.compute(emptied(JUDGED[task])) is None

    def test_the_order_of_the_examples_does_not_matter(self, name: str) -> None:
        made = member("metric", METRICS, name)
        for task in made.tasks:
            assert made.compute(reversed_(JUDGED[task])) == pytest.approx(made.compute(JUDGED[task]), rel=1e-12)

    def test_what_the_leaderboard_says_of_it(self, name: str) -> None:
        kind = member_class(METRICS, "metric", name)
        assert isinstance(kind.higher_is_better, bool)
        assert kind.unit in ("share", "nats per token", "correlation", "1 - cosine")
        assert kind.about
        assert kind.tasks and set(kind.tasks) <= set(TASKS)

    def test_better_is_where_it_says(self, name: str) -> None:
        made = member("metric", METRICS, name)
        for task in made.tasks:
            good, bad = made.compute(best(JUDGED[task])), made.compute(worst(JUDGED[task]))
            assert (good > bad) == made.higher_is_better


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def made(self, name: str) -> Method:
        method: Method = member("method", METHODS, name)
        return method

    def test_trained_saved_loaded_and_folded_it_computes_the_same(self, name: str, base: Base, work: Path) -> None:
        method = self.made(name)
        before = state(base.model())
        fitted = train(base, method, fact_rows().head(8), work, batch_size=4, epochs=2)
        assert fitted.num_steps == 4
        ids = [[1, 5, 9, 30, 200], [7, 8]]
        with torch.inference_mode():
            pristine, trained = forward(base.model(), ids), forward(fitted.model, ids)
            assert (trained - pristine).abs().max() > 1e-3
            method.save(fitted.model, work / "saved")
            loaded = method.load(base.model(), work / "saved").eval()
            assert torch.equal(forward(loaded, ids), trained)
            if method.folds:
                folded = method.fold(loaded)
                assert type(folded).__name__ == "LlamaForCausalLM"
                assert folded.state_dict().keys() == before.keys()
                assert (forward(folded, ids) - trained).abs().max() < 1e-4
        assert equal_states(state(base.model()), before)

    def test_same_seed_same_bytes_other_seed_others(self, name: str, base: Base, work: Path) -> None:
        method, found = self.made(name), []
        for place, seed in (("a", 0), ("b", 0), ("c", 1)):
            fitted = train(base, method, fact_rows().head(4), work / place, seed=seed, batch_size=2)
            method.save(fitted.model, work / f"{place}-saved")
            found.append({p.name: p.read_bytes() for p in sorted((work / f"{place}-saved").iterdir())})
        assert found[0] == found[1]
        assert found[0] != found[2]

    @pytest.mark.parametrize("granularity", ["example", "token"])
    def test_weights_of_alpha_0_change_no_bit(self, name: str, granularity: str, base: Base, work: Path) -> None:
        method, rows = self.made(name), with_distances(fact_rows().head(6))
        weighed = plan(alpha=0.0, granularity=granularity, refresh_steps=1, form="exponential")
        with_weights = train(base, method, rows, work / "with", batch_size=2, weighed=weighed)
        without = train(base, method, rows, work / "without", batch_size=2)
        assert equal_states(state(with_weights.model), state(without.model))
        assert with_weights.curve == without.curve

    def test_weights_change_what_is_trained(self, name: str, base: Base, work: Path) -> None:
        method, rows = self.made(name), with_distances(fact_rows().head(6))
        with_weights = train(base, method, rows, work / "with", batch_size=2, weighed=plan(refresh_steps=2))
        without = train(base, method, rows, work / "without", batch_size=2)
        assert not equal_states(state(with_weights.model), state(without.model))


TASKS_ON = [("knowledge", "base"), ("classification", "encoder"), ("classification", "decoder")]
TASKS_ON += [("regression", "encoder"), ("regression", "decoder")]


@pytest.mark.parametrize("name", TASKS)
def test_what_is_learned_and_lost_are_metrics_of_the_task(name: str) -> None:
    kind = member_class(TASKS, "task", name)
    for metric in (kind.learned, kind.lost):
        assert name in member_class(METRICS, "metric", metric).tasks
    assert member_class(METRICS, "metric", kind.learned).higher_is_better
    assert not member_class(METRICS, "metric", kind.lost).higher_is_better
    assert name in {task for task, _ in TASKS_ON}


@pytest.mark.parametrize(("name", "backbone"), TASKS_ON)
class TestEveryTask:
    @pytest.fixture
    def on(self, name: str, backbone: str, request: pytest.FixtureRequest) -> Base:
        found: Base = request.getfixturevalue(backbone)
        return replace(found, task=member("task", TASKS, name))

    def rows(self, name: str) -> pd.DataFrame:
        if name == "knowledge":
            return fact_rows()
        rows = review_rows()
        return rows if name == "classification" else rows.assign(target=[f"{i % 5 - 2}.5" for i in range(24)])

    def model(self, on: Base) -> Any:
        torch.manual_seed(0)
        return on.model()

    def stepped(self, on: Base, rows: Any, work: Path, **changes: Any) -> Any:
        """Take one step of plain gradient descent: it shows the gradient."""
        model = self.model(on).requires_grad_(True)
        options = recipe(**{"learning_rate": 0.1, "max_grad_norm": 1e9, **changes})
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        return fit(model, training(rows, work, options, task=on.task, optimizer=sgd))

    def test_a_rows_loss_is_its_own(self, name: str, backbone: str, on: Base) -> None:
        model, task = self.model(on), on.task
        tokens = task.encode(on.tokenizer(), self.rows(name).head(7))

        def losses(chosen: Any) -> torch.Tensor:
            with torch.inference_mode():
                return task.objective.losses(model(**task.inputs(chosen)).logits, task.objective.targets(chosen))

        together = losses(tokens)
        assert together.shape == (7,)
        assert together.tolist() == pytest.approx([float(losses([one])[0]) for one in tokens], abs=1e-4)
        assert int(task.objective.num_targets(task.objective.targets(tokens))) == sum(one.num_learned for one in tokens)

    def test_the_mask_tells_which_losses_are_of_targets(self, name: str, backbone: str, on: Base) -> None:
        model, task = self.model(on), on.task
        tokens = task.encode(on.tokenizer(), self.rows(name).head(7))
        targets = task.objective.targets(tokens)
        with torch.inference_mode():
            each = task.objective.target_losses(model(**task.inputs(tokens)).logits, targets)
        mask = task.objective.target_mask(targets)
        assert mask.shape == each.shape
        assert mask.dtype == torch.bool
        assert mask.sum(1).tolist() == [one.num_learned for one in tokens]
        assert (each[~mask] == 0).all()
        assert (each[mask] != 0).all()

    def test_the_first_step_reports_the_weighted_mean(self, name: str, backbone: str, on: Base, work: Path) -> None:
        weights = [2.0, 0.0, 1.0, 0.5, 1.0, 1.0, 3.0, 1.0]
        rows = encoded(on, self.rows(name).head(8), weights)
        model, task = self.model(on), on.task
        with torch.inference_mode():
            each = [
                float(task.objective.losses(model(**task.inputs([r])).logits, task.objective.targets([r])))
                for r in rows.rows
            ]
        expected = sum(w * loss for w, loss in zip(weights, each, strict=True)) / sum(r.num_learned for r in rows.rows)
        assert self.stepped(on, rows, work, batch_size=8).curve[0]["loss"] == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("num", [8, 6])
    def test_accumulation_changes_nothing(self, name: str, backbone: str, on: Base, work: Path, num: int) -> None:
        rows = encoded(on, self.rows(name).head(num), [1.0, 0.5, 2.0, *[1.0] * (num - 3)])
        before = state(self.model(on))
        one, four = (
            state(self.stepped(on, rows, work / str(size), batch_size=size, gradient_accumulation_steps=num).model)
            for size, num in ((8, 1), (2, 4))
        )
        assert max((one[key] - before[key]).abs().max() for key in before) > 1e-3
        assert max((one[key] - four[key]).abs().max() for key in before) < 1e-5

    def test_the_validation_loss_is_the_mean_over_targets(self, name: str, backbone: str, on: Base, work: Path) -> None:
        rows, task = self.rows(name), on.task
        model = self.model(on)
        given = encoded(on, rows)
        with torch.inference_mode():
            each = [
                float(task.objective.losses(model(**task.inputs([r])).logits, task.objective.targets([r])))
                for r in given.rows
            ]
        expected = sum(each) / sum(r.num_learned for r in given.rows)
        still = torch.optim.SGD(model.parameters(), lr=1e-9)
        options = recipe(learning_rate=1e-9, batch_size=5)
        changes = {"validation": given, "task": task, "optimizer": still}
        fitted = fit(model, training(encoded(on, rows.head(1)), work, options, **changes))
        validation = [entry["loss"] for entry in fitted.curve if entry["split"] == "validation"]
        assert validation == [pytest.approx(expected, rel=1e-3)]

    def test_verdicts_stand_on_the_index_of_the_rows(self, name: str, backbone: str, on: Base) -> None:
        model, tokenizer = self.model(on), on.tokenizer()
        rows = self.rows(name).set_axis(range(30, 54))
        found = on.task.evaluator.judge(model, tokenizer, rows, 5, "x")
        assert found.index.tolist() == list(range(30, 54))
        assert found["correct"].dtype == bool
        assert found["loss"].tolist() == pytest.approx(
            on.task.evaluator.judge(model, tokenizer, rows, 1, "x")["loss"].tolist(), abs=1e-3
        )
        assert len(on.task.evaluator.judge(model, tokenizer, rows[:0], 5, "x")) == 0
        answers = on.task.evaluator.answer(model, tokenizer, rows.head(3), 2, 2, "x")
        assert len(answers) == 3 and all(isinstance(answer, str) for answer in answers)
        assert on.task.evaluator.answer(model, tokenizer, rows[:0], 2, 2, "x") == []

    def test_texts_are_read_one_by_one(self, name: str, backbone: str, on: Base) -> None:
        texts = ["the film was good", "Ada lives in Rome", "a"]
        read, states = on.task.evaluator.read_texts(self.model(on), on.tokenizer(), texts, 2, 16, "x")
        assert (len(read), (read["num_tokens"] > 0).all()) == (3, True)
        assert ("loss" in read) == (states is None)  # of a language model the one, of a classifier the other
        assert states is None or states.shape[0] == 3
        none, _ = on.task.evaluator.read_texts(self.model(on), on.tokenizer(), [], 2, 16, "x")
        assert (len(none), "num_tokens" in none) == (0, True)
