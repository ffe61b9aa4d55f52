from __future__ import annotations

from dataclasses import replace

import pytest
from ruamel.yaml import YAML

from knowtune.evaluation.report.sections.answer import read, show, suggest
from stages.core.schema import Promote
from tests.unit.evaluation.report.whole import NAMES, whole_report

WHOLE = whole_report()


def test_the_gate_decides() -> None:
    shown = show(WHOLE)
    assert shown is not None
    assert (shown["ships"], shown["run"], shown["folder"]) == (True, NAMES[1], f"data/merged/{NAMES[1]}")
    assert shown["plainly"] == (
        "It answers 18 of 100 new facts in wordings that it never saw (the base: 0, the champion: 40), "
        "and has lost 9 of 100 facts that the base knew (the champion: 25)."
    )
    assert [tile["title"] for tile in shown["tiles"][:2]] == ["learned", "lost"]
    assert [one["run"] for one in shown["failed"]] == [name for name in NAMES if name != NAMES[1]]


@pytest.mark.parametrize("run", [NAMES[1], NAMES[-1], "gone"])  # the judged one's name, another's, of no run any more
def test_the_champion_stands_beside_as_it_was_recorded(run: str) -> None:
    assert WHOLE.verdict is not None
    shown = show(replace(WHOLE, verdict={**WHOLE.verdict, "champion": {**WHOLE.verdict["champion"], "run": run}}))
    assert shown is not None
    learned, lost = (tile["beside"] for tile in shown["tiles"][:2])
    assert (learned, lost) == ({"base": "0.0 %", "champion": "40.0 %"}, {"base": "0.0 %", "champion": "25.0 %"})


def test_without_a_champion_the_base_stands_beside_alone() -> None:
    shown = show(replace(WHOLE, verdict={**(WHOLE.verdict or {}), "champion": None}))
    assert shown is not None and [list(tile["beside"]) for tile in shown["tiles"]] == [["base"]] * 4
    assert shown["plainly"].endswith("(the base: 0), and has lost 9 of 100 facts that the base knew.")


def test_where_none_is_shipped_the_best_candidate_is_shown() -> None:
    assert WHOLE.verdict is not None
    shown = show(replace(WHOLE, verdict={**WHOLE.verdict, "verdict": "none", "run": None, "seed": None}))
    assert shown is not None and (shown["ships"], shown["run"]) == (False, NAMES[1])


def test_the_example_of_a_gate_is_one_that_params_may_hold() -> None:
    shown = show(replace(WHOLE, verdict=None))
    assert shown is not None
    written = YAML(typ="safe").load(shown["example"])["promote"]
    assert Promote.model_validate(written).run == suggest(WHOLE)


def test_without_a_gate_numbers_alone_speak() -> None:
    ungated = replace(WHOLE, verdict=None)
    shown = show(ungated)
    assert shown is not None and not shown["ships"] and shown["run"] == suggest(ungated)
    most, least = read(ungated)
    assert most.startswith(f"Learned most: {NAMES[9]}, ") and least.startswith(f"Lost least: {NAMES[0]}, ")
    drifted = replace(ungated, axes=("drift", "accuracy"))
    assert (suggest(drifted), read(drifted)) == (None, [])
