"""Members of families by name: a member is a settings model whose fields are its options.

A family is a folder with one file per member and, in its `__init__`, one dict from the member's name to
"module:Class". The dict holds strings, so that a new member changes no other member's code. Adding a filter,
selector, method, mixture or metric is one file and one line; its options are then checked in params.yaml by the
fields it declares.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from knowtune.common.errors import Problem, unknown


@dataclass(frozen=True)
class Context:
    """What a params file says around a member, for what the member demands of it.

    Args:
        where: the key of the section that names the member, e.g. "runs.lora".
        section: that section; keys with faults of their own are missing.
        task: the kind of task; None where the file says none.
        base: what the file says of the base, such as what builds it.
        quantized: the base's weights are packed.
        has_validation: the source gives validation rows.
        has_replay: there are known rows that may be replayed and that no metric measures.
        deep: checks that take seconds are wanted too, such as those that import PEFT.
    """

    where: str
    section: Mapping[str, Any]
    task: str | None
    base: Mapping[str, Any]
    quantized: bool
    has_validation: bool
    has_replay: bool
    deep: bool


class Member(BaseModel):
    """A member of a family: its fields are its options, with types and bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def demands(self, context: Context) -> list[Problem]:
        """Say what of the params around this member it cannot work with."""
        return []


def member_class(registry: Mapping[str, str], family: str, name: str) -> type[Any]:
    """Import the class of a member by its name.

    Raises:
        UserError: no member has this name; the message lists the known ones and the nearest.
    """
    if name not in registry:
        raise unknown(family, name, registry)
    module, _, attribute = registry[name].partition(":")
    member: type[Any] = getattr(importlib.import_module(module), attribute)
    return member
