"""Add a member to an enum of PEFT's, which has no public way in."""

from __future__ import annotations

from typing import Any


def add_member(names: Any, name: str) -> Any:
    """Add a member whose value is its name to an enum of strings, and return it.

    What `enum` itself keeps of a member is: the attribute, its place in the order, and the maps from name and value.
    """
    if name in names.__members__:
        return names[name]
    member: Any = str.__new__(names, name)
    member._name_, member._value_, member.__objclass__ = name, name, names
    member._sort_order_ = len(names.__members__)
    type.__setattr__(names, name, member)  # the enum's own __setattr__ guards its members
    names._member_names_.append(name)
    names._member_map_[name] = member
    names._value2member_map_[name] = member
    return member
