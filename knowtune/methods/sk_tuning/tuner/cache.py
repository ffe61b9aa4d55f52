"""Caches that hold the text: their model counts all positions, and whoever goes on from one the input's alone.

Transformers' `generate` leaves out of its input as many tokens as a cache says that it has. With the text among them it
would leave out tokens that the model has not read.
"""

from __future__ import annotations

from functools import cache
from typing import Any

ADAPTER, HIDDEN = "sk_tuning", "sk_tuning_hidden"  # of a cache: whose text it holds; positions that it does not show


def full_length(past: Any) -> Any:
    """Return how many positions a cache has, those of a text too; 0 without one."""
    return 0 if past is None else getattr(past, "plain", type(past)).get_seq_length(past)


def holder_of(past: Any) -> str | None:
    """Return the name of the adapter whose text a cache holds; None: of none."""
    holder: str | None = getattr(past, ADAPTER, None)
    return holder if holder is not None and full_length(past) > 0 else None


def count_text(past: Any) -> None:
    """Let a cache count the text, for the pass of its model."""
    if hasattr(past, HIDDEN):
        setattr(past, HIDDEN, 0)


def hide_text(past: Any, adapter: str, num: int) -> None:
    """Let a cache count the input alone.

    It gets a class of its own: a method on the object would keep the object alive, and not be copied with it.

    Args:
        past: the cache.
        adapter: whose text it holds.
        num: tokens of the text.
    """
    if not hasattr(past, HIDDEN):
        kind: Any = type(past)
        past.__class__ = _hiding(kind)
    setattr(past, ADAPTER, adapter)
    setattr(past, HIDDEN, num)


@cache
def _hiding(plain: Any) -> Any:
    """Make the class of caches of a kind that hold a text."""

    def get_seq_length(self: Any, layer_idx: int = 0) -> Any:
        length = plain.get_seq_length(self, layer_idx)
        return length - getattr(self, HIDDEN) if length else length

    def reduce(self: Any, _protocol: Any) -> Any:
        return _hiding_again, (plain,), self.__dict__

    return type(plain.__name__, (plain,), {"plain": plain, "get_seq_length": get_seq_length, "__reduce_ex__": reduce})


def _hiding_again(plain: Any) -> Any:
    """Make an empty cache, to be filled as a copy."""
    kind = _hiding(plain)
    return kind.__new__(kind)
