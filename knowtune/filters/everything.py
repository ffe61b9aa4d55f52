"""The filter that drops nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from knowtune.filters.base import Filter

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.filters.base import Seen


class Everything(Filter):
    """Keep every row; what the others are compared with."""

    reads: ClassVar[tuple[str, ...] | None] = ()

    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series[str]:
        """Drop no row."""
        import pandas as pd

        return pd.Series("", index=rows.index, dtype="str")
