"""One pass of a backbone: what a caller gives, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from knowtune.common.errors import UserError
from knowtune.methods.imsm.tuner.cache import Memories
from knowtune.methods.imsm.tuner.query import Prompt


@dataclass
class PromptSource:
    """Where a caller's prompt is.

    Args:
        mask: true at a prompt's tokens  # (batch, seq); None: by the rule
        end: how many tokens the prompt of a generation has; None: outside of a generation.
    """

    mask: torch.Tensor | None = None
    end: int | None = None

    @property
    def known(self) -> bool:
        """Whether the caller says anything."""
        return self.mask is not None or self.end is not None

    def prompt(self, before: int, num: int, batch: int) -> Prompt:
        """Say which tokens of a pass are a prompt's.

        Args:
            before: tokens in the cache.
            num: tokens of the pass.
            batch: rows of the pass; more than the mask's where each is followed by several beams.
        """
        if not self.known:
            return before == 0
        if self.end is not None and (self.mask is None or before >= self.end):
            if before >= self.end or before + num <= self.end:
                return before < self.end
            return torch.arange(before, before + num)[None].expand(batch, -1) < self.end
        assert self.mask is not None
        if self.end is None and self.mask.shape != (batch, num):
            raise UserError(f"IMSM: the prompt mask is of {tuple(self.mask.shape)}, and the input of {(batch, num)}")
        start = 0 if self.end is None else before
        part = self.mask[:, start : start + num].bool()
        part = torch.cat([part, part.new_zeros(len(part), num - part.shape[1])], 1)
        return part.repeat_interleave(batch // len(part), 0) if len(part) and batch % len(part) == 0 else part


@dataclass
class Run:
    """One pass of a backbone.

    Args:
        name: of the adapter.
        cache: the caller's; None where none is wanted.
        held: both memories in it.
        prompt: which tokens of the pass are a prompt's.
        real: 0 for padding  # (batch, seq); None: there is none
        starts: where packed rows start  # (batch, seq); None: nowhere
        frozen: the base's states  # (batch, seq, d); None where both memories share the pass
    """

    name: str
    cache: Any
    held: Memories | None
    prompt: Prompt
    real: torch.Tensor | None
    starts: torch.Tensor | None
    frozen: torch.Tensor | None = None
    nested: int = 0  # passes of the same backbone within this one


def states_of(output: Any) -> torch.Tensor:
    """Return the states that the head reads  # (batch, seq, d)."""
    states: torch.Tensor = output[0] if isinstance(output, tuple) else output.last_hidden_state
    return states


def give_back(output: Any, mixed: torch.Tensor, run: Run) -> Any:
    """Put the mix and the caller's cache into what a backbone gives, a tuple or an output of transformers."""
    if isinstance(output, tuple):
        rest = [run.cache if isinstance(part, DynamicCache) else part for part in output[1:]]
        return (mixed, *(part for part in rest if part is not None))
    if run.frozen is None:
        for name in ("hidden_states", "attentions"):
            if getattr(output, name, None) is not None:
                setattr(output, name, tuple(part[1::2] for part in getattr(output, name)))
    output.last_hidden_state = mixed
    if getattr(output, "past_key_values", None) is not None or run.cache is not None:
        output.past_key_values = run.cache
    if getattr(output, "hidden_states", None) is not None:
        output.hidden_states = (*output.hidden_states[:-1], mixed)
    return output
