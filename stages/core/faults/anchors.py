"""Anchors: what they hold must be something that the method has; Fisher information is of weights with a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowtune.common.errors import Problem
from knowtune.preserve.options import INSTEAD
from stages.core.faults.members import Members
from stages.core.faults.raw import family, is_quantized


def check_anchors(raw: dict[str, Any], members: Members) -> Iterator[Problem]:
    """Check the anchor of every run that has one."""
    for name, section in family(raw, "runs").items():
        anchor, method = (section.get("preserve") or {}).get("anchor"), members.methods[name]
        if anchor is None:
            continue
        where, trained = f"runs.{name}.preserve.anchor", section
        if method is not None and section.get("inner"):
            method, trained = method.inside, section["inner"]  # the gate changes no weight
        if method is not None and method.needs_mask and (inner := members.adapters.get(section.get("selection", ""))):
            method, trained = inner, family(raw, "selections")[section["selection"]]["adapter"]  # the mask is inside it
        kind = trained.get("type") or trained.get("method")
        if method is not None and anchor.get("of", "change") == "change":
            if not method.computes_change:
                no_matrix = f"{kind} with these options gives no matrix by which it changes a weight"
                if anchor.get("form", "l2") == "ewc":  # which holds nothing else
                    yield Problem(f"{where}.form", f"'ewc', and {no_matrix}", INSTEAD)
                else:
                    yield Problem(f"{where}.of", f"'change', and {no_matrix}", "parameters")
            elif method.is_adapter and anchor.get("decoupled", False):
                got = f"true, but {kind} computes the change; no step of the optimiser moves it"
                yield Problem(f"{where}.decoupled", got, "false, or of: parameters")
        if anchor.get("form", "l2") == "ewc" and is_quantized(raw):
            yield Problem(f"{where}.form", "'ewc' on a quantised base, whose weights have no gradient", "l2")
