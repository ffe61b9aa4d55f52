from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from knowtune.evaluation.gate import Bound, Candidate, Check, Rival, Rules, check_candidate, give_verdict, no_verdict
from knowtune.evaluation.paired import Results

RULES = Rules(
    learned="generalisation",
    binary=True,
    bounds={"forgotten": Bound(0.1, False, True), "text_drift": Bound(0.2, False, False)},
    measured=frozenset({"forgotten", "text_drift"}),
    planted=0.05,
    unreviewed=0.0,
)


def results(name: str, right: int, *, of: int = 20, seeds: int = 2, first: int = 0) -> Results:
    """Examples of a fact each, the first so many of which are right, with every seed."""
    rows = [
        {"id": f"e{i + first}", "fact": f"f{i + first}", "seed": seed, "value": float(i < right), "weight": 1.0}
        for i in range(of)
        for seed in range(seeds)
    ]
    return Results(name, pd.DataFrame(rows))


BASE = Rival("the base", results("the base", 2, seeds=1))
GOOD = Candidate(
    run="kept",
    seed=1,
    identity="w1",
    results=results("kept", 15),
    values={"forgotten": 0.08, "text_drift": 0.1},
    spread={"forgotten": {"mean": 0.09, "half_width": 0.02, "n": 2}, "text_drift": {"mean": 0.1, "half_width": None}},
    parity=(0.0, 1e-3),
    planted=0.05,
)


def failed(of: Candidate, rules: Rules = RULES, rival: Rival = BASE, unreviewed: float = 0.0) -> list[str]:
    return [check.text for check in check_candidate(of, rules, rival, unreviewed) if not check.passed]


def test_a_model_that_learned_and_kept_passes_with_its_numbers() -> None:
    checks = {check.name: check for check in check_candidate(GOOD, RULES, BASE, 0.0)}
    assert all(check.passed for check in checks.values())
    assert checks["learned"].value == pytest.approx(0.65)
    low, high = checks["learned"].low, checks["learned"].high
    assert low is not None and high is not None and 0 < low < 0.65 < high
    assert checks["forgotten"] == Check(
        "forgotten", True, "forgotten 8.0 % (at most 10.0 %)", 0.08, 0.1, pytest.approx(0.07), pytest.approx(0.11)
    )
    assert (checks["text_drift"].low, checks["text_drift"].high) == (None, None)  # of one seed


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"results": results("kept", 3)}, "which is not beyond the noise"),  # one fact of 20 more than the base
        ({"results": results("kept", 15, first=1)}, "measured on other examples"),
        ({"values": {**GOOD.values, "forgotten": 0.101}}, "forgotten 10.1 % (at most 10.0 %)"),
        ({"values": {"forgotten": 0.0}}, "text_drift has no finite value (at most 0.200)"),
        ({"parity": (2e-3, 1e-3)}, "parity 2.0e-03 (at most 1.0e-03)"),
        ({"parity": (float("nan"), 1e-3)}, "parity nan"),
        ({"planted": 0.06}, "6.0 % of the rows that its filter keeps are planted damage (at most 5.0 %)"),
    ],
)
def test_each_rule_stops_a_model_alone_and_says_why(changes: Mapping[str, Any], words: str) -> None:
    (reason,) = failed(replace(GOOD, **changes))
    assert words in reason


def test_rules_about_the_data_the_champion_and_what_cannot_be_measured() -> None:
    assert failed(GOOD, unreviewed=0.01) == ["1.0 % of the rows read are rejects that nobody reviewed (at most 0.0 %)"]
    champion = Rival("the champion (kept, version 3)", results("kept", 15), identity="w1")
    new, learned = failed(GOOD, rival=champion)
    assert new == "it is the champion (kept, version 3) already"
    assert "75.0 % against 75.0 %" in learned
    assert failed(GOOD, rival=Rival("the champion", None, "of another task")) == ["of another task"]
    nothing_known = replace(RULES, measured=frozenset({"text_drift"}))
    assert failed(replace(GOOD, values={"text_drift": 0.1}), nothing_known) == []
    assert failed(replace(GOOD, parity=None)) == []  # a mixture


def test_higher_may_be_better_and_losses_are_better_when_they_fall() -> None:
    rules = replace(RULES, bounds={"numbers": Bound(-0.05, True, True)})
    assert failed(replace(GOOD, values={"numbers": -0.06}), rules) == ["numbers -6.0 % (at least -5.0 %)"]
    assert failed(replace(GOOD, values={"numbers": -0.05}), rules) == []
    losses = replace(RULES, learned="loss", binary=False)
    assert failed(GOOD, losses) == [
        "loss 0.750 against 0.100 of the base: +0.650, 95 % interval +0.450 to +0.850, which is not beyond the noise"
    ]
    assert failed(replace(GOOD, results=BASE.results), losses, replace(BASE, results=GOOD.results)) == []


def test_the_first_of_the_named_that_passes_is_shipped() -> None:
    bad = replace(GOOD, run="full", values={**GOOD.values, "forgotten": 0.6})
    candidates = {"full": bad, "kept": GOOD}
    checked = {name: check_candidate(of, RULES, BASE, 0.0) for name, of in candidates.items()}
    verdict = give_verdict(checked, candidates, ["full", "kept"])
    assert (verdict["verdict"], verdict["run"], verdict["seed"]) == ("ship", "kept", 1)
    assert verdict["summary"].startswith("ship kept, seed 1: generalisation 75.0 % against 10.0 % of the base: +65.0")
    assert verdict["summary"].endswith("; forgotten 8.0 % (at most 10.0 %); text_drift 0.100 (at most 0.200)")
    assert verdict["candidates"] == [
        {"run": "full", "passed": False, "failed": ["forgotten 60.0 % (at most 10.0 %)"]},
        {"run": "kept", "passed": True, "failed": []},
    ]
    crowned = {
        "kept": check_candidate(GOOD, RULES, Rival("the champion (kept, version 3)", GOOD.results, "", "w1"), 0.0)
    }
    assert give_verdict(crowned, candidates, ["kept"])["summary"] == (
        "ship none: kept, seed 1: it is the champion (kept, version 3) already"
    )
    none = give_verdict(checked, candidates, ["full"])
    assert (none["verdict"], none["run"], none["judged"]) == ("none", None, "full")
    assert none["summary"] == "ship none: full, seed 1: forgotten 60.0 % (at most 10.0 %)"
    assert set(no_verdict("why")) == set(none)
