from __future__ import annotations

from typing import Any

import pytest

from knowtune.filters.plot import draw_filter

SUMMARY: dict[str, Any] = {
    "rows": {"read": 10, "kept": 7, "dropped": {"1. clean": 1, "2. nearest": 2}},
    "stratify": None,
    "distances": {
        "edges": [0.0, 0.5, 1.0],
        "kept": [6, 1],
        "dropped": {"1. clean": [0, 1], "2. nearest": [0, 2]},
        "cuts": {"2. nearest": [0.8]},
    },
    "groups": {"by": "relation", "number": 2, "names": ["<a> & $b$", ""], "read": [6, 4], "kept": [4, 3]},
    "interference": {"groups": ["a", "b"], "cosines": [[None, -0.2], [-0.2, 0.4]], "with_the_others": {"0": -0.5}},
}


def test_all_panels() -> None:
    text = draw_filter(SUMMARY)
    assert text is not None
    for words in ("dropped by 1. clean", "dropped by 2. nearest", "dashed: cut", "which knowledge disturbs which",
                  "kept of each relation", "(none) (4)", "&lt;a&gt; &amp; $b$ (6)"):  # fmt: skip
        assert words in text, words
    assert text == draw_filter(SUMMARY)


@pytest.mark.parametrize("key", ["distances", "interference"])
def test_a_panel_of_what_is_not_there_is_left_out(key: str) -> None:
    text = draw_filter({**SUMMARY, key: None})
    assert text is not None
    assert ("dashed: cut" in text) == (key != "distances")
    assert ("which knowledge disturbs which" in text) == (key != "interference")


def test_nothing_to_see_is_no_picture() -> None:
    nothing = {**SUMMARY, "distances": None, "interference": None}
    assert draw_filter({**nothing, "groups": {**SUMMARY["groups"], "number": 1}}) is None
    assert draw_filter({**nothing, "rows": {"read": 10, "kept": 10, "dropped": {"1. clean": 0}}}) is None


def test_many_groups_are_cut_and_counted() -> None:
    names = [f"relation {i} with quite a long name" for i in range(200)]
    groups = {"by": "target", "number": 5000, "names": names, "read": [10] * 200, "kept": [5] * 200}
    text = draw_filter({**SUMMARY, "groups": groups})
    assert text is not None
    assert "kept of each target, the 24 largest of 5,000, % (dotted: of all)" in text
    assert "relation 23 with quit… (10)" in text
    assert "relation 24 " not in text
