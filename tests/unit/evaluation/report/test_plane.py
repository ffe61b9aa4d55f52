from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from knowtune.evaluation.leaderboard import Entry
from knowtune.evaluation.report.plane import find_points, plot_frontier, scales
from tests.unit.evaluation.test_interpolation import CURVE
from tests.unit.evaluation.test_leaderboard import ENTRIES, interval

LEARNED, LOST = "generalisation", "forgotten"


def points(axes: Any) -> dict[str, tuple[float, float]]:
    return {
        str(bars.get_label()): (float(bars[0].get_xdata()[0]), float(bars[0].get_ydata()[0]))
        for bars in axes.containers
    }


def test_kept_stands_above_learned() -> None:
    (axes,) = plot_frontier(ENTRIES, LOST, LEARNED).axes
    assert points(axes) == {"base": (10.0, 100.0), "lora": (50.0, 98.0)}  # soup was not measured
    across, along = (bar.get_segments()[0].flatten().tolist() for bar in axes.containers[1][2])
    assert across == pytest.approx([48.77, 98, 51.23, 98])
    assert along == pytest.approx([50, 97, 50, 99])
    assert axes.get_xlabel() == "generalisation: new facts, other paraphrases, % →"
    assert axes.get_ylabel() == "kept: 100 % - forgotten, % →"
    assert not axes.yaxis_inverted()


def test_what_is_no_share_is_drawn_downwards() -> None:
    entries = [Entry("base", "as it is", None, None, {"drift": interval(0.3, None), "accuracy": interval(0.5, None)})]
    (axes,) = plot_frontier(entries, "drift", "accuracy").axes
    assert points(axes) == {"base": (50.0, 0.3)}
    assert axes.yaxis_inverted()


def test_every_alpha_of_an_interpolation_lies_on_a_line() -> None:
    wise = Entry("wise", "interpolate of lora", None, None, ENTRIES[1].summary)
    (axes,) = plot_frontier([*ENTRIES, wise], LOST, LEARNED, {"wise": CURVE}).axes
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert np.asarray(line.get_xydata()).tolist() == [[50.0, 100.0], [50.0, 50.0]]
    assert [note.get_text() for note in axes.texts][:2] == ["0.25", "1"]


def test_the_frontier_is_what_no_other_beats_at_both() -> None:
    numbers = {"base": (0.1, 0.0), "full": (0.7, 0.6), "kept": (0.6, 0.1), "lora": (0.6, 0.5), "twin": (0.6, 0.1)}
    entries = [
        Entry(name, "", None, None, {LEARNED: interval(learned, None), LOST: interval(lost, None)})
        for name, (learned, lost) in numbers.items()
    ]
    points = find_points(entries, *scales(LOST, LEARNED))
    assert [point.name for point in points if point.front] == ["base", "full", "kept", "twin"]


def test_names_stand_beside_their_points_and_no_legend_is_needed() -> None:
    (axes,) = plot_frontier(ENTRIES, LOST, LEARNED).axes
    assert [note.get_text() for note in axes.texts] == ["base", "lora"]
    assert axes.get_legend() is None
