from __future__ import annotations

from knowtune.selectors.everything import Everything
from tests.unit.selectors.oracle import logistic


def test_all_rows_all_parameters() -> None:
    choice = Everything().choose(logistic(), seed=0)
    assert choice.scores.to_dict() == dict.fromkeys(range(50, 74), 1.0)
    assert choice.chosen.to_dict() == dict.fromkeys(range(50, 74), True)
    assert choice.mask is None and choice.layers is None
    assert choice.trace == [
        {"round": 1, "num_rows": 24, "num_parameters": None, "mass_kept": None, "parameter_overlap": None,
         "row_overlap": None, "dev_score": None}
    ]  # fmt: skip
    assert (Everything().masks, Everything().chooses_rows) == (False, False)
