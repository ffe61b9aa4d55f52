"""Which tokens are the query of a token, and their running mean.

The paper has one prompt and one answer: the query is the mean over the prompt. For all else the rules are ours:

- an answer's query is all that stands before it, the turns before its own included, and does not change within it;
- a token that is in no answer has as its query all tokens up to itself, so that a state never depends on later ones;
- a prompt of one token at most, which may stand before any text, is none: what follows is in no answer;
- rows that are packed into one sequence are told apart by positions that start at 0 again: each has its own query;
- padding is in no query. A token with no token in its query has the query 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Which tokens of a pass are a prompt's: all, none, or those of a mask  # (batch, seq), bool.
Prompt = bool | torch.Tensor


@dataclass
class Sums:
    """Sums over tokens, with their number last.

    Args:
        seen: of all real tokens so far  # (batch, r + 1)
        query: of those up to a prompt's last one  # (batch, r + 1)
    """

    seen: torch.Tensor
    query: torch.Tensor


def running_queries(
    parts: torch.Tensor,
    real: torch.Tensor | None,
    prompt: Prompt,
    starts: torch.Tensor | None,
    before: Sums | None,
) -> tuple[torch.Tensor, Sums]:
    """Give each token's query.

    Args:
        parts: what each token adds  # (batch, seq, r)
        real: 0 for padding  # (batch, seq); None: there is none
        prompt: which tokens are in no answer.
        starts: where a packed row starts  # (batch, seq), bool; None: nowhere
        before: of the tokens before this pass; None: there are none.

    Returns:
        The queries  # (batch, seq, r), and the sums for what follows.
    """
    weight = parts.new_ones(parts.shape[:2]) if real is None else real.to(parts)
    counted = torch.cat([parts * weight[..., None], weight[..., None]], 2)  # (batch, seq, r + 1)
    if parts.shape[1] == 1 and prompt is False and before is not None:  # the step of a generation
        after = Sums(before.seen + counted[:, 0], before.query)
        return _mean(_or_all(after.query, after.seen)[:, None]), after
    none = torch.zeros_like(counted[:, 0])
    before = Sums(none, none) if before is None else before
    seen = before.seen[:, None] + counted.cumsum(1)
    if prompt is True and starts is None:
        return _mean(seen), Sums(seen[:, -1], seen[:, -1])
    places = torch.arange(parts.shape[1], device=parts.device)
    last = _last(places, _as_mask(prompt, seen, real))  # (batch, seq), -1 before the first token of a prompt
    query = _take(torch.cat([before.query[:, None], seen], 1), last + 1)
    if starts is not None:
        first = _last(places, starts)
        base = _take(torch.cat([before.seen[:, None], seen], 1), first.clamp(min=0))
        begun = (first >= 0)[..., None]
        query = torch.where(begun, torch.where((last >= first)[..., None], query - base, 0.0), query)
        own = torch.where(begun, seen - base, seen)
    else:
        own = seen
    return _mean(_or_all(query, own)), Sums(seen[:, -1], query[:, -1])


def _as_mask(prompt: Prompt, seen: torch.Tensor, real: torch.Tensor | None) -> torch.Tensor:
    mask = prompt if isinstance(prompt, torch.Tensor) else seen.new_full(seen.shape[:2], float(prompt))
    mask = mask.to(seen.device).bool()
    return mask if real is None else mask & real.bool()


def _last(places: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Give the last place up to each at which a mask is true, -1 where there is none  # (batch, seq)."""
    return torch.where(mask, places, -1).cummax(1).values


def _take(rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return rows.gather(1, places[..., None].expand(-1, -1, rows.shape[2]))


def _or_all(query: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Give what is seen where there is no prompt  # (..., r + 1)."""
    return torch.where(query[..., -1:] > 1, query, seen)


def _mean(sums: torch.Tensor) -> torch.Tensor:
    return sums[..., :-1] / sums[..., -1:].clamp(min=1)
