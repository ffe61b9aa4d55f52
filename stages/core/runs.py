"""From params to the library's objects: a run's method and recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowtune.methods import METHODS
from knowtune.registry import member_class

if TYPE_CHECKING:
    from knowtune.methods.base import Method
    from knowtune.training.recipe import Recipe
    from stages.core.schema import MethodParams, Params, RunParams


def method_of(named: MethodParams) -> Method:
    """Make a run's method, or that of a selection's adapter, from its name and options."""
    method: Method = member_class(METHODS, "method", named.method)(**named.member_options())
    return method


def recipe_of(params: Params, run: RunParams) -> Recipe:
    """Make a run's recipe: the shared one, with the run's own changes."""
    return params.training.with_changes(run.training)
