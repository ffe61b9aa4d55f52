"""Names of the arguments of a model's forward pass, for hooks, which get them by position and by name."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any


def arguments_of(module: Any) -> tuple[str, ...]:
    """Name the arguments of a module's forward pass, in order."""
    kind: Any = type(module)
    return _arguments(kind)


@cache
def _arguments(kind: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(kind.forward).parameters)[1:]
