"""The filter that keeps the rows of some relations: one kind of knowledge at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, field_validator

from knowtune.filters.base import Filter

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.filters.base import Seen


class Relations(Filter):
    """Keep the rows of the named relations, so that a run learns these alone.

    With `allow_lost: true`, for it is meant to lose the others. A name that no row has is an error.
    """

    reads: ClassVar[tuple[str, ...] | None] = ()

    only: list[Annotated[str, Field(pattern=r"\S")]] = Field(min_length=1, description="names of relations that stay")

    @field_validator("only")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        """Require different names."""
        if len(set(names)) < len(names):
            raise ValueError("names that are all different")
        return names

    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series[str]:
        """Drop the rows of other relations.

        Raises:
            UserError: a relation is named that no row has.
        """
        import pandas as pd

        from knowtune.common.errors import unknown

        known = rows["relation"].drop_duplicates().tolist()
        for name in self.only:
            if name not in known:
                raise unknown("relation", name, known)
        reasons = "of the relation " + rows["relation"].astype(str)
        return reasons.where(~rows["relation"].isin(self.only), "").astype(pd.StringDtype(na_value=float("nan")))
