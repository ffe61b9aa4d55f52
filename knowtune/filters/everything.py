"""The filter that drops nothing."""

from __future__ import annotations

import pandas as pd

from knowtune.families import Filter


class Everything(Filter):
    """Keep every row; what the others are compared with."""

    def reasons(self, rows: pd.DataFrame, answers: pd.DataFrame) -> pd.Series[str]:
        """Give no row a reason to go."""
        return pd.Series("", index=rows.index, dtype="str")
