"""What selectors share that choose among parameters: which are in scope, and which of them no run may train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from knowtune.preserve.options import Protect
from knowtune.selectors.base import Pool, Selector

if TYPE_CHECKING:
    from knowtune.selectors.protection import Protection


class Scoped(Selector):
    """A selector with a scope of parameters, of which some may be protected."""

    ranks_by_fisher: ClassVar[bool] = False  # whether it takes F_new, by which a contrast could be made

    pattern: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="globs on parameter names that put them in scope; null for all"
    )
    granularity: Literal["global", "parameter"] = Field(
        default="global", description="the best entries of all parameters together, or equal shares of every one"
    )
    protect: Protect | None = Field(
        default=None, description="leave out the entries that carry most of what the base knew; null for none"
    )

    @model_validator(mode="after")
    def _protects(self) -> Self:
        """Refuse a contrast without F_new."""
        if self.protect is not None and self.protect.form == "contrast" and not self.ranks_by_fisher:
            raise ValueError("protect.form: contrast ranks by F_new / F_kept, and this strategy takes no F_new")
        return self

    @property
    def shares_alike(self) -> bool:
        """Whether its mask has the same share of every parameter, so that it spares none of them more than another."""
        return self.granularity == "parameter" and self.pattern is None

    @property
    def sources(self) -> frozenset[str]:
        """Those of `protect`."""
        return frozenset() if self.protect is None else frozenset(self.protect.sources)

    def protection(self, pool: Pool) -> Protection:
        """Find what of a pool's parameters carries what the base knew."""
        from knowtune.selectors.protection import protect

        return protect(self.protect, pool, per_parameter=self.granularity == "parameter")
