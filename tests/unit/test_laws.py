"""The laws that every member of every family keeps; a new line in a registry is a new test."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from knowtune.base import Base
from knowtune.evaluation import forward
from knowtune.families import Filter, Member, Method, Metric, Mixture, Selector, Task, member_class
from knowtune.filtering import run_filters
from knowtune.filters import FILTERS
from knowtune.methods import METHODS
from knowtune.metrics import METRICS
from knowtune.mixtures import MIXTURES
from knowtune.selectors import SELECTORS
from knowtune.tasks import TASKS

from .helpers import answers_for, equal_states, fact_rows, row, state, table, train
from .metrics.tables import JUDGED, best, emptied, reversed_, worst

FAMILIES: list[tuple[str, type[Member], dict[str, str]]] = [
    ("filter", Filter, FILTERS),
    ("selector", Selector, SELECTORS),
    ("method", Method, METHODS),
    ("mixture", Mixture, MIXTURES),
    ("metric", Metric, METRICS),
    ("task", Task, TASKS),
]
MEMBERS = [(family, kind, registry, name) for family, kind, registry in FAMILIES for name in registry]
# What a member needs beside its defaults, so that it can be made.
NEEDS: dict[tuple[str, str], dict[str, Any]] = {
    ("method", "lora"): {"rank": 2, "alpha": 4.0},
    ("method", "peft"): {"type": "vera", "r": 8},
    ("task", "classification"): {"labels": ["bad", "good"]},
}
SHAPES = {"a": (6, 5), "b": (70,)}


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
        package = "mixtures" if family == "mixture" else f"{family}s"
        assert module == f"knowtune.{package}.{name}"
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


@pytest.mark.parametrize("name", FILTERS)
class TestEveryFilter:
    def rows(self) -> pd.DataFrame:
        rows = fact_rows()
        bad = table(row("x1", "p", ""), row("x2", "The hat of Ada is", "blue"), row("x3", "Ada lives in", "Rome"))
        return pd.concat([rows, bad]).set_axis(range(10, 10 + len(rows) + 3))

    def test_reasons_stand_on_the_index_of_the_rows(self, name: str) -> None:
        rows = self.rows()
        found = member("filter", FILTERS, name).reasons(rows, answers_for(rows))
        assert found.index.equals(rows.index)
        assert all(isinstance(reason, str) for reason in found)

    def test_rows_in_are_kept_and_dropped(self, name: str) -> None:
        rows = self.rows()
        kept, dropped = run_filters(rows, answers_for(rows), [(name, member("filter", FILTERS, name))], "f")
        assert len(kept) + len(dropped) == len(rows)
        assert sorted([*kept["id"], *dropped["id"]]) == sorted(rows["id"])
        assert (dropped["reason"] != "").all()

    def test_the_rows_are_not_touched(self, name: str) -> None:
        rows = self.rows()
        answers = answers_for(rows)
        member("filter", FILTERS, name).reasons(rows, answers)
        pd.testing.assert_frame_equal(rows, self.rows())
        pd.testing.assert_frame_equal(answers, answers_for(rows))

    def test_twice_the_same(self, name: str) -> None:
        rows = self.rows()
        one, two = (member("filter", FILTERS, name).reasons(rows, answers_for(rows)) for _ in range(2))
        pd.testing.assert_series_equal(one, two)


SELECTIONS = [(name, {}) for name in SELECTORS] + [("random", {"samples": 5, "budget": 0.13})]


@pytest.mark.parametrize(("name", "options"), SELECTIONS)
class TestEverySelector:
    def choose(self, name: str, options: dict[str, Any], seed: int = 0) -> Any:
        rows = fact_rows().set_axis(range(7, 31))
        return member("selector", SELECTORS, name, **options).choose(rows, SHAPES, seed)

    def test_scores_and_choice_stand_on_the_index_of_the_rows(self, name: str, options: dict[str, Any]) -> None:
        found = self.choose(name, options)
        assert found.scores.index.tolist() == found.chosen.index.tolist() == list(range(7, 31))
        assert found.scores.dtype == float
        assert found.chosen.dtype == bool
        assert found.chosen.any()

    def test_same_seed_same_choice(self, name: str, options: dict[str, Any]) -> None:
        one, two = self.choose(name, options, seed=4), self.choose(name, options, seed=4)
        pd.testing.assert_series_equal(one.scores, two.scores)
        pd.testing.assert_series_equal(one.chosen, two.chosen)
        assert one.trace == two.trace
        assert (one.mask is None) == (two.mask is None)
        assert one.mask is None or equal_states(one.mask, two.mask)

    def test_a_mask_is_made_where_it_says_so_and_holds_the_budget(self, name: str, options: dict[str, Any]) -> None:
        made = member("selector", SELECTORS, name, **options)
        mask = self.choose(name, options).mask
        assert (mask is not None) == made.masks
        if mask is not None:
            assert set(mask) <= set(SHAPES)
            assert sum(len(indices) for indices in mask.values()) == 13  # 0.13 of 100
            for indices in mask.values():
                assert indices.dtype == torch.int64
                assert torch.equal(indices, indices.unique())

    def test_the_global_generators_are_left_alone(self, name: str, options: dict[str, Any]) -> None:
        before = torch.get_rng_state()
        self.choose(name, options)
        assert torch.equal(torch.get_rng_state(), before)


WHOLE = [("average", {}), ("ties", {"density": 1.0}), ("dare", {"density": 1.0})]
WHOLE += [("dare", {"density": 1.0, "elect_sign": True})]


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


@pytest.mark.parametrize("name", METRICS)
class TestEveryMetric:
    def test_a_number_from_items_and_none_from_none(self, name: str) -> None:
        made = member("metric", METRICS, name)
        for task in made.tasks:
            assert type(made.compute(JUDGED[task])) is float
            assert made.compute(emptied(JUDGED[task])) is None

    def test_the_order_of_the_items_does_not_matter(self, name: str) -> None:
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
