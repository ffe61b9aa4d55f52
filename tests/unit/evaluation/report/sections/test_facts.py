from __future__ import annotations

from knowtune.evaluation.report.sections.facts import show
from tests.unit.evaluation.report.whole import NAMES, whole_report


def test_shares_by_relation_are_of_what_the_base_knew() -> None:
    shown = show(whole_report())
    assert shown is not None
    learned, lost = shown["tables"]
    assert learned["models"] == lost["models"] == NAMES
    # the third model has 3, 2 and 3 of twelve right: places 0 and 2 are capitals, of six
    capital = learned["rows"][0]
    assert (capital["relation"], capital["count"]) == ("capital", 6)
    assert round(capital["cells"][2], 6) == round((2 + 1 + 2) / 18, 6)
    assert lost["rows"][0]["cells"][0] == 0.0 and round(lost["rows"][1]["cells"][0], 6) == round(1 / 18, 6)


def test_every_row_is_held_once_with_a_digit_a_model() -> None:
    shown = show(whole_report())
    assert shown is not None
    rows = shown["rows"]
    assert (rows["total"], len(rows["rows"])) == (36, 36)
    assert rows["models"][NAMES[2]]["right"][12:24] == "332000000000"
    assert rows["models"][NAMES[2]]["answers"]["14"] == "wrong <i>"
    assert rows["kinds"] == ["new, as trained", "new, other wording", "known before"]
