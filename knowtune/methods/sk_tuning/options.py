"""What the options of SK-Tuning allow, for params.yaml and for the adapter's config; imports nothing heavy."""

from __future__ import annotations

CHOICES = {"variant": ("prefix", "prompt"), "form": ("paper", "released"), "pooling": ("model", "mean", "released")}


def option_conflicts(variant: str, form: str, shared: bool, rank: int | None, transform: bool) -> dict[str, str]:
    """Say which options do nothing beside the others.

    Returns:
        Name of an option to where it belongs.
    """
    conflicts: dict[str, str] = {}
    if form == "released":
        given = {"shared": shared, "rank": rank is not None}
        conflicts |= {name: "of form: paper; form: released has no projections" for name in given if given[name]}
    elif transform:
        conflicts["transform"] = "of form: released; form: paper always has projections"
    if variant == "prompt" and form == "paper" and shared:
        conflicts["shared"] = "of variant: prefix; variant: prompt has one projection in all"
    return conflicts
