"""One cache that holds both memories' keys and values, and the query.

It is the caller's own: its layers become those of the base, then those of the tuned model, then one of the query's
sums. So all that is done to the rows of a cache (beams reorder them, answers that have ended leave) is done to all
three. Once both memories share a pass, a layer holds the heads of both, those of the base first.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from knowtune.common.errors import UserError
from knowtune.methods.imsm.tuner.query import Sums
from knowtune.models.arguments import arguments_of

PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)  # layers that hold keys and values, and no more
HELD = "imsm"  # the attribute of a cache with its memories


class JointCache(DynamicCache):
    """Shows layers that hold the heads of both memories to a pass of both.

    Rows of such a pass alternate: of the base, of the tuned model.
    """

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep keys and values, and give all  # (2 x batch, heads, seq, width) both."""
        rows, heads, seq, _ = key_states.shape
        new = [part.reshape(rows // 2, 2 * heads, seq, -1) for part in (key_states, value_states)]
        keys, values = super().update(new[0], new[1], layer_idx, *args, **options)
        return keys.reshape(rows, heads, keys.shape[2], -1), values.reshape(rows, heads, values.shape[2], -1)


@dataclass
class Memories:
    """Both memories of a cache.

    Args:
        adapter: with which it was begun.
        frozen: the base's layers; None while joint.
        tuned: the tuned model's.
        joint: layers of both.
        query: the query's sums, as a layer; None without query.
    """

    adapter: str
    frozen: DynamicCache | None
    tuned: DynamicCache | None
    joint: JointCache | None = None
    query: Any = None

    def show(self, cache: Any) -> None:
        """Put the layers into the caller's cache."""
        parts = [part for part in (self.frozen, self.tuned, self.joint) if part is not None]
        cache.layers = [layer for part in parts for layer in part.layers] + ([self.query] if self.query else [])

    @property
    def sums(self) -> Sums | None:
        """The query's sums so far."""
        if self.query is None:
            return None
        return Sums(self.query.keys[:, 0, 0], self.query.values[:, 0, 0])

    def keep(self, sums: Sums) -> None:
        """Keep the query's sums."""
        if self.query is None:
            self.query = DynamicLayer()
            self.query.lazy_initialization(sums.seen, sums.query)
            self.query.crop = _keep_whole
        self.query.keys, self.query.values = sums.seen[:, None, None], sums.query[:, None, None]

    def join(self) -> JointCache | None:
        """Hold the layers of both memories together; None where a layer cannot be."""
        if self.joint is None and self.frozen is not None and self.tuned is not None:
            pairs = list(zip(self.frozen.layers, self.tuned.layers, strict=True))
            if not all(type(layer) in PLAIN for pair in pairs for layer in pair):
                return None
            self.joint = JointCache()
            self.joint.layers = [_join(*pair) for pair in pairs]
            self.frozen = self.tuned = None
        return self.joint

    def split(self, config: Any) -> None:
        """Hold the layers of both memories apart again."""
        if self.joint is not None:
            self.frozen, self.tuned = DynamicCache(config=config), DynamicCache(config=config)
            self.frozen.layers = [_half(layer, 0) for layer in self.joint.layers]
            self.tuned.layers = [_half(layer, 1) for layer in self.joint.layers]
            self.joint = None


def keeps_keys(backbone: Any) -> bool:
    """Whether a backbone has layers that keep keys and values."""
    if "past_key_values" not in arguments_of(backbone):
        return False
    layers = DynamicCache(config=backbone.config).layers
    return not layers or any(isinstance(layer, CacheLayerMixin) for layer in layers)


def open_memories(cache: Any, adapter: str, config: Any) -> Memories:
    """Take both memories of a caller's cache.

    Args:
        cache: the caller's.
        adapter: the active one.
        config: the backbone's.

    Returns:
        Its memories; new ones for an empty cache.

    Raises:
        UserError: the cache is of a kind that cannot hold them, or was begun otherwise.
    """
    if not isinstance(cache, DynamicCache) or isinstance(cache, JointCache) or getattr(cache, "offloading", False):
        kind = "an offloaded cache" if getattr(cache, "offloading", False) else type(cache).__name__
        raise UserError(f"IMSM caches two memories; got {kind}, allowed: a DynamicCache, generate's own default")
    begun = cache.get_seq_length() > 0
    memories: Memories | None = getattr(cache, HELD, None) if begun else None
    if begun and (memories is None or memories.adapter != adapter):
        fault = f"IMSM: the cache was not begun with the adapter {adapter!r}"
        raise UserError(f"{fault}; give an empty one, or the whole input")
    if memories is None:
        memories = Memories(adapter, DynamicCache(config=config), DynamicCache(config=config))
        setattr(cache, HELD, memories)
    return memories


def _join(frozen: Any, tuned: Any) -> Any:
    layer = copy.copy(frozen)
    if frozen.is_initialized and frozen.keys.numel():
        layer.keys = torch.stack([frozen.keys, tuned.keys], 1).flatten(1, 2)  # (batch, 2 x heads, seq, width)
        layer.values = torch.stack([frozen.values, tuned.values], 1).flatten(1, 2)
    return layer


def _half(joint: Any, number: int) -> Any:
    layer = copy.copy(joint)
    if joint.is_initialized and joint.keys.numel():
        layer.keys, layer.values = (part.unflatten(1, (2, -1))[:, number] for part in (joint.keys, joint.values))
    return layer


def _keep_whole(_: int) -> None:
    """Cut nothing off the sums: they have no length."""
