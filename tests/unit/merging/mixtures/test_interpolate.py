from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from knowtune.merging.mixtures.base import Choice, Position
from knowtune.merging.mixtures.interpolate import Interpolate
from knowtune.registry import Context


def context(**changes: Any) -> Context:
    options = {"task": "knowledge", "quantized": False, "has_validation": True, "has_replay": True, "deep": False}
    return Context("mixtures.wise", {}, base={}, **{**options, **changes})  # type: ignore[arg-type]


def test_every_tensor_goes_the_same_way_but_a_classifiers_head() -> None:
    made = Interpolate(alpha=0.3)
    assert [made.kept_share(Position(block, 2)) for block in (1, 2)] == [0.3, 0.3]
    assert made.kept_share(Position(None, 0)) == 0.3
    assert made.kept_share(Position(None, 0, in_head=True)) == 1.0
    assert made.choice is None


def test_a_list_is_a_choice_in_ascending_order() -> None:
    made = Interpolate(alpha=[1, 0.25, 0.5], max_forgotten=0.1)
    assert made.choice == Choice({a: Interpolate(alpha=a) for a in (0.25, 0.5, 1.0)}, 0.1)
    assert list(made.choice.candidates) == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"alpha": 1.5}, "less than or equal to 1"),
        ({"alpha": -0.5}, "greater than or equal to 0"),
        ({"alpha": [0.5]}, "at least 2 items"),
        ({"alpha": [0.5, 0.5]}, "each alpha once"),
        ({"alpha": 0.5, "max_forgotten": 0.1}, "max_forgotten only with a list of alphas"),
    ],
)
def test_what_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Interpolate(**options)


def test_one_alpha_demands_nothing() -> None:
    bare = context(task="classification", has_validation=False, has_replay=False)
    assert Interpolate().demands(bare) == []


def test_a_list_demands_rows_to_choose_on() -> None:
    made = Interpolate(alpha=[0.5, 1.0])
    assert made.demands(context()) == []
    missing = [problem.allowed for problem in made.demands(context(has_validation=False, has_replay=False))]
    assert missing == [
        "one number, for `source` gives no validation rows",
        "one number, for there are no rows that may be replayed: prepare.replay.known, or source.files.replay",
    ]
    (problem,) = made.demands(context(task="classification", has_replay=False))
    assert (problem.where, "classification" in problem.allowed) == ("mixtures.wise.options.alpha", True)
