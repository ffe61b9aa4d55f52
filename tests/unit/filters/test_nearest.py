from __future__ import annotations

from collections.abc import Sequence

from knowtune.filters.nearest import Nearest
from tests.unit.helpers import row, seen_of, table


def reasons(distances: Sequence[float], keep: float) -> list[str]:
    rows = table(*(row(f"id{i}", f"p{i}", "t") for i in range(len(distances)))).set_axis(range(5, 5 + len(distances)))
    return Nearest(keep=keep).reasons(rows, seen_of(rows, distances)).tolist()


def test_the_farthest_go() -> None:
    assert reasons([0.5, 1.03, 0.0, 0.87], 0.75) == ["", "far: distance 1.0300 > 0.8700", "", ""]
    assert reasons([0.5, 1.03, 0.0, 0.87], 0.25) == [
        "far: distance 0.5000 > 0.0000", "far: distance 1.0300 > 0.0000", "", "far: distance 0.8700 > 0.0000",
    ]  # fmt: skip


def test_of_equal_distances_the_lower_id_stays() -> None:
    tie = "far: distance 0.5000 = (by id) 0.5000"
    assert reasons([0.5, 0.5, 0.1, 0.5], 0.5) == ["", tie, "", tie]
    rows = table(row("b", "p", "t"), row("a", "q", "t"))
    assert Nearest(keep=0.5).reasons(rows, seen_of(rows, [1.0, 1.0])).tolist() == [
        "far: distance 1.0000 = (by id) 1.0000",
        "",
    ]
