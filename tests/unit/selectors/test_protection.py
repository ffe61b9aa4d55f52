from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from knowtune.common.errors import UserError
from knowtune.models.masks import num_entries
from knowtune.registry import member_class
from knowtune.selectors import SELECTORS
from knowtune.selectors.base import Choice, Selector
from knowtune.selectors.everything import Everything
from knowtune.selectors.fish import Fish
from knowtune.selectors.ird import Ird
from knowtune.selectors.magnitude import Magnitude
from knowtune.selectors.protection import FLOOR
from knowtune.selectors.random import Random
from tests.unit.selectors.oracle import SHAPES, Table, flat, logistic, top

SIZES = {"a": 15, "b": 7, "c": 100}
PARTS = {"a": range(15), "b": range(15, 22), "c": range(22, 122)}


def gradients(seed: int, num: int = 9) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(num, 122)) * generator.exponential(size=122)


def pool(**options: Any) -> Table:
    return logistic(**{"kept": {"known": gradients(1), "self": gradients(2, 5)}, **options})


def kept_of(made: Table, *sources: str) -> np.ndarray[Any, Any]:
    """F_kept by its formula, all parameters laid end to end."""
    total = np.zeros(122)
    for source in sources:
        fisher = (made.kept[source] ** 2).mean(axis=0)
        total += fisher / fisher.mean()
    return total


def protect(*sources: str, **options: Any) -> dict[str, Any]:
    return {"protect": {"from": list(sources), **options}}


def mask_of(made: Table, choice: Choice) -> set[int]:
    assert choice.mask is not None
    return set(flat(made, choice.mask))


STRATEGIES: list[tuple[type[Any], dict[str, Any]]] = [
    (Random, {"budget": 0.2}),
    (Magnitude, {"budget": 0.2}),
    (Fish, {"budget": 0.2, "samples": 8}),
    (Ird, {"budget": 0.2, "samples": 6, "rounds": 3}),
    (Ird, {"budget": 0.2, "samples": 6, "order": "samples_first"}),
    (Random, {}),
    (Everything, {}),
]


def test_every_selector_with_protection_is_tested_here() -> None:
    members = [member_class(SELECTORS, "selector", name) for name in SELECTORS]
    assert {kind for kind, _ in STRATEGIES} == {member for member in members if "protect" in member.model_fields}


@pytest.mark.parametrize(("kind", "options"), STRATEGIES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.77])
def test_no_strategy_takes_an_entry_with_the_most_of_what_the_base_knew(
    kind: type[Any], options: dict[str, Any], share: float
) -> None:
    made = pool()
    selector: Selector = kind(**options, **protect("known", "self", share=share))
    choice = selector.choose(made, seed=0)
    left = math.ceil(round((1 - share) * 122, 6))
    protected = set(top(kept_of(made, "known", "self").tolist(), 122 - left))
    found = mask_of(made, choice)
    assert selector.masks is True
    assert not found & protected
    assert len(found) == (25 if options.get("budget") else left)
    assert choice.trace[-1]["num_parameters"] == len(found)


@pytest.mark.parametrize(("kind", "options"), STRATEGIES)
def test_the_same_share_of_every_parameter(kind: type[Any], options: dict[str, Any]) -> None:
    made = pool()
    choice = kind(**options, granularity="parameter", **protect("self", share=0.5)).choose(made, seed=0)
    kept = kept_of(made, "self").tolist()
    shares = {"a": 8, "b": 3, "c": 50}  # 61 of 122: 7.5, 3.5 and 50 by the largest remainder, of equals the first
    protected = {i for name, part in PARTS.items() for i in top(kept, shares[name], part)}
    assert not mask_of(made, choice) & protected
    assert choice.layers is not None
    assert dict(zip(choice.layers["parameter"], choice.layers["protected"], strict=True)) == {**shares, "none": 0}


@pytest.mark.parametrize("num", [1, 13, 60])
def test_among_the_rest_a_strategy_goes_by_its_own_order(num: int) -> None:
    made = pool()
    kept = kept_of(made, "known").tolist()
    free = sorted(set(range(122)) - set(top(kept, 61)))
    fisher = (made.gradients**2).mean(axis=0).tolist()
    assert made.theta is not None
    sizes = np.abs(made.theta).tolist()
    for kind, scores in ((Fish, fisher), (Magnitude, sizes)):
        choice = kind(num_parameters=num, **protect("known")).choose(made, seed=0)
        assert mask_of(made, choice) == set(top(scores, num, free))


def test_draws_are_uniform_among_the_rest() -> None:
    made = pool(num=1)
    counts = torch.zeros(122)
    for seed in range(100):
        counts[list(mask_of(made, Random(num_parameters=20, **protect("self")).choose(made, seed)))] += 1
    free = sorted(set(range(122)) - set(top(kept_of(made, "self").tolist(), 61)))
    share = 20 / 61
    assert counts.sum() == counts[free].sum()
    assert (counts[free] / 100 - share).abs().max() < 5 * math.sqrt(share * (1 - share) / 100)


def test_sources_count_alike_whatever_their_scale() -> None:
    one, other = pool(), pool(kept={"known": 1000 * gradients(1), "self": gradients(2, 5)})
    masks = [Everything(**protect("known", "self")).choose(made, 0).mask for made in (one, other)]
    alone = Everything(**protect("known")).choose(one, 0).mask
    assert masks[0] is not None and masks[1] is not None and alone is not None
    assert flat(one, masks[0]) == flat(one, masks[1]) != flat(one, alone)


def test_samples_reach_the_pool() -> None:
    made = pool()
    Everything(**protect("self", "known", samples=3)).choose(made, 0)
    assert made.calls == [("kept_fisher", ("self", 3)), ("kept_fisher", ("known", 3))]


def test_without_protection_nothing_is_scored_and_the_choice_is_as_it_was() -> None:
    made = pool()
    choice = Random(budget=0.2).choose(made, seed=0)
    assert made.calls == [] and choice.protected is None
    assert choice.layers is not None and "protected" not in choice.layers
    generator = np.random.default_rng(0)
    generator.random(24)  # the rows'
    assert sorted(mask_of(made, choice)) == sorted(generator.choice(122, 25, replace=False, shuffle=False).tolist())


def test_how_much_is_protected_and_touched_all_the_same() -> None:
    made = pool()
    kept = kept_of(made, "known", "self")
    choice = Fish(num_parameters=20, **protect("known", "self", share=0.25)).choose(made, seed=0)
    protected = top(kept.tolist(), 30)
    assert choice.protected == {
        "share": 30 / 122,
        "mass": pytest.approx(kept[protected].sum() / kept.sum(), rel=1e-9),
        "mass_touched": pytest.approx(kept[sorted(mask_of(made, choice))].sum() / kept.sum(), rel=1e-9),
    }
    rest = Everything(**protect("known", "self", share=0.25)).choose(made, seed=0).protected
    assert rest is not None and rest["mass"] + rest["mass_touched"] == pytest.approx(1, rel=1e-12)


def test_ird_shrinks_from_what_is_not_protected() -> None:
    selector = Ird(num_parameters=4, samples=6, rounds=4, **protect("self", share=0.5))
    choice = selector.choose(pool(), seed=0)
    assert [line["num_parameters"] for line in choice.trace] == [31, 16, 8, 4]  # 61 x (4/61)^(t/4)
    assert [line["parameter_overlap"] is None for line in choice.trace] == [True, False, False, False]


@pytest.mark.parametrize("kind", [Fish, Ird])
def test_a_contrast_ranks_by_the_ratio(kind: type[Any]) -> None:
    made = pool()
    options = {"rounds": 1, "samples": 24} if kind is Ird else {}
    choice = kind(num_parameters=20, **options, **protect("self", form="contrast")).choose(made, seed=0)
    ratio = (made.gradients**2).mean(axis=0) / kept_of(made, "self")
    assert mask_of(made, choice) == set(top(ratio.tolist(), 20))
    assert choice.protected is not None and (choice.protected["share"], choice.protected["mass"]) == (0, 0)
    assert num_entries(choice.mask or {}) == 20


def test_a_contrast_takes_an_entry_without_f_kept_first_and_one_without_f_new_last() -> None:
    kept, made = gradients(2), logistic()
    kept[:, 5] = kept[:, 7] = 0
    made.kept = {"self": kept}
    made.gradients[:, 7] = 0
    chosen = [flat(made, Fish(num_parameters=n, **protect("self", form="contrast")).choose(made, 0).mask or {})
              for n in (1, 121)]  # fmt: skip
    assert chosen[0] == [5]
    assert chosen[1] == [i for i in range(122) if i != 7]
    assert FLOOR < 1e-9


@pytest.mark.parametrize("kind", [Random, Magnitude, Everything])
def test_a_contrast_needs_f_new(kind: type[Any]) -> None:
    options = {"budget": 0.1} if kind is Magnitude else {}
    message = "protect.form: contrast ranks by F_new / F_kept, and this strategy takes no F_new"
    with pytest.raises(ValidationError, match=message):
        kind(**options, **protect("self", form="contrast"))


@pytest.mark.parametrize("kind", [Random, Magnitude, Fish, Ird])
@pytest.mark.parametrize(
    ("options", "reserved", "message"),
    [
        ({"budget": 0.6}, 0, "budget: got 0.6, 74 of 122 parameters, but protect leaves 61 of the 122 entries in "
         "scope; allowed: up to 61, or a smaller protect.share"),
        ({"num_parameters": 70}, 8, "num_parameters: got 70, but protect leaves 61 of the 122 entries in scope, and "
         "the head has 8; allowed: up to 69, or a smaller protect.share"),
    ],
)  # fmt: skip
def test_a_budget_larger_than_what_is_left(
    kind: type[Any], options: dict[str, Any], reserved: int, message: str
) -> None:
    made = pool(num_reserved=reserved)
    with pytest.raises(UserError) as caught:
        kind(**options, samples=5, **protect("self")).choose(made, seed=0)
    assert str(caught.value) == message
    assert not [call for call in made.calls if call[0] == "kept_fisher"]  # no pass over what the base knew


@pytest.mark.parametrize("kind", [Random, Magnitude, Fish, Ird])
def test_a_budget_of_all_that_is_left_takes_it(kind: type[Any]) -> None:
    made = pool()
    rest = mask_of(made, Everything(**protect("self")).choose(made, 0))
    assert mask_of(made, kind(num_parameters=61, samples=5, **protect("self")).choose(made, 0)) == rest


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, "the Fisher information about 'self' is zero for every parameter in scope"),
        (math.inf, "the Fisher information about 'self' of 'a' is not finite"),
    ],
)
def test_a_source_that_says_nothing(value: float, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        Everything(**protect("self")).choose(pool(kept={"self": np.full((2, 122), value)}), 0)


@pytest.mark.parametrize(
    "options",
    [{"share": 0.0}, {"share": 1.0}, {"share": -0.5}, {"from": []}, {"from": ["prompts"]}, {"form": "ratio"},
     {"samples": 0}, {"weight": 1.0}],
)  # fmt: skip
def test_bounds(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"protect.{next(iter(options))}"):
        Everything(protect={"from": ["self"], **options})


def test_a_contrast_has_no_share() -> None:
    with pytest.raises(ValidationError, match="share only with form: exclude; a contrast leaves nothing out"):
        Fish(budget=0.1, **protect("self", form="contrast", share=0.9))


def test_a_source_counts_once() -> None:
    with pytest.raises(ValidationError, match=r"protect\.from\n  Value error, each source once"):
        Everything(**protect("self", "known", "self"))


def test_everything_takes_no_scope_without_protection() -> None:
    with pytest.raises(ValidationError, match="Value error, pattern and granularity only with protect"):
        Everything(pattern="*")
    assert list(SHAPES) == ["a", "none", "b", "c"] and sum(SIZES.values()) == 122
