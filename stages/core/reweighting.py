"""From params to the library's objects: how a run weighs its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knowtune.training.reweighting import Plan
    from stages.core.schema import Params


def plan_of(params: Params, run: str) -> Plan | None:
    """Make the plan of a run that has one."""
    from knowtune.training.reweighting import Plan
    from stages.core.semantics import representation_of

    weighting = params.runs[run].reweight
    if weighting is None:
        return None
    answers, where = params.answers, f"runs.{run}.reweight"
    representation = None if weighting.by_loss else representation_of(params)
    return Plan(weighting, representation, answers.max_new_tokens, answers.extra_tokens, where)
