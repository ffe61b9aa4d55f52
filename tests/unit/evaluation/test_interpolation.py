from __future__ import annotations

import pandas as pd

from knowtune.evaluation.interpolation import interpolation_rows

CURVE = pd.DataFrame(
    {
        "seed": [0, 0, 1, 1],
        "alpha": [0.25, 1.0] * 2,
        "learned": [0.5, 0.75, 0.5, 0.25],
        "forgotten": [0.0, 0.5, 0.0, 0.5],
        "chosen": [True, False, True, False],
    }
)


def test_a_row_for_each_alpha_with_the_seeds_that_chose_it() -> None:
    assert interpolation_rows({"wise": CURVE, "soft": CURVE[:2]}) == [
        {"mixture": "wise", "alpha": "0.25", "learned": "50.0 % ± 0.0", "forgotten": "0.0 % ± 0.0",
         "chosen": "seed 0, seed 1"},
        {"mixture": "wise", "alpha": "1", "learned": "50.0 % ± 317.7", "forgotten": "50.0 % ± 0.0", "chosen": ""},
        {"mixture": "soft", "alpha": "0.25", "learned": "50.0 %", "forgotten": "0.0 %", "chosen": "seed 0"},
        {"mixture": "soft", "alpha": "1", "learned": "75.0 %", "forgotten": "50.0 %", "chosen": ""},
    ]  # fmt: skip
