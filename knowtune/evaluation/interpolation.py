"""What every alpha of an interpolation learned and forgot, as rows of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from knowtune.common.statistics import interval_text, mean_interval

if TYPE_CHECKING:
    import pandas as pd


def interpolation_rows(interpolations: Mapping[str, pd.DataFrame]) -> list[dict[str, str]]:
    """Give a row for each mixture and alpha, with means and 95 % intervals over seeds.

    Args:
        interpolations: of each mixture seed, alpha, learned, forgotten, chosen.

    Returns:
        mixture, alpha, learned, forgotten, and which seeds chose it.
    """
    rows = []
    for name, curve in interpolations.items():
        for alpha, of_alpha in curve.groupby("alpha"):
            numbers = {
                key: interval_text(mean_interval(of_alpha[key].tolist()), share=True)
                for key in ("learned", "forgotten")
            }
            seeds = ", ".join(f"seed {seed}" for seed in of_alpha.loc[of_alpha["chosen"], "seed"])
            rows.append({"mixture": name, "alpha": f"{alpha:g}", **numbers, "chosen": seeds})
    return rows
