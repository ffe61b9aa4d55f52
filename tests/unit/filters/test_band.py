from __future__ import annotations

import pytest
from pydantic import ValidationError

from knowtune.filters.band import Band
from tests.unit.helpers import row, seen_of, table


def test_both_ends_belong_to_the_band() -> None:
    rows = table(*(row(f"id{i}", f"p{i}", "t") for i in range(5)))
    found = Band(lo=0.2, hi=0.9).reasons(rows, seen_of(rows, [0.1, 0.2, 0.5, 0.9, 1.0]))
    assert found.tolist() == ["near: distance 0.1000 < 0.2", "", "", "", "far: distance 1.0000 > 0.9"]


def test_the_whole_range_keeps_all() -> None:
    rows = table(row("a", "p", "t"), row("b", "q", "t"))
    assert Band(lo=0, hi=2).reasons(rows, seen_of(rows, [0.0, 2.0])).tolist() == ["", ""]


@pytest.mark.parametrize("bounds", [(0.9, 0.2), (-0.1, 1.0), (0.0, 2.1), (float("nan"), 1.0)])
def test_a_band_that_holds_nothing_is_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match=r"lo <= hi|greater than or equal to 0|less than or equal to 2"):
        Band(lo=bounds[0], hi=bounds[1])
