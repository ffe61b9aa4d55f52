from __future__ import annotations

from knowtune.selectors.everything import Everything

from ..helpers import fact_rows


def test_all_rows_all_parameters() -> None:
    rows = fact_rows().set_axis(range(5, 29))
    choice = Everything().choose(rows, {"w": (2, 3)}, seed=0)
    assert choice.scores.to_dict() == dict.fromkeys(range(5, 29), 1.0)
    assert choice.chosen.to_dict() == dict.fromkeys(range(5, 29), True)
    assert choice.mask is None
    assert choice.trace == [{"num_rows": 24, "num_parameters": None}]
    assert Everything().masks is False
