from __future__ import annotations

from dataclasses import replace

from knowtune.evaluation.report.page import render_page
from tests.unit.evaluation.report.whole import whole_report

WHOLE = whole_report()
QUICK = replace(WHOLE, curves=WHOLE.curves[:0], pushed=None, verdict=None)  # without most of its pictures
SECTION = '<details class="section" id="{}"'


def test_other_tasks_have_the_sections_that_say_something_of_them() -> None:
    labels = render_page(replace(QUICK, axes=("drift", "accuracy")))
    assert SECTION.format("facts") in labels and SECTION.format("frontier") not in labels
    assert "No gate has decided</p>" in labels and "Look at" not in labels
    scores = render_page(replace(QUICK, axes=("drift", "pearson")))
    assert SECTION.format("facts") not in scores and SECTION.format("leaderboard") in scores


def test_what_is_not_there_has_no_section() -> None:
    bare = replace(QUICK, models=(), filters={}, selection_plots={}, retained={})
    text = render_page(replace(bare, entries=WHOLE.entries[:1]))
    assert [name for name in NAMES if SECTION.format(name) in text] == ["answer", "leaderboard"]


NAMES = ("answer", "frontier", "leaderboard", "facts", "curves", "pushed", "filters", "selections", "cost", "reproduce")
