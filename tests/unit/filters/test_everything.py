from __future__ import annotations

import pandas as pd

from knowtune.filters.everything import Everything
from tests.unit.helpers import fact_rows, seen_of


def test_no_row_has_a_reason_to_go() -> None:
    rows = fact_rows().set_axis(range(100, 124))
    found = Everything().reasons(rows, seen_of(rows))
    assert found.tolist() == [""] * 24
    assert found.index.equals(rows.index)


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = fact_rows()
    turned = rows[::-1]
    one, two = (Everything().reasons(r, seen_of(r)) for r in (rows, turned))
    pd.testing.assert_series_equal(one, two.sort_index())
