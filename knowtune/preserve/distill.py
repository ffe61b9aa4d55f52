"""Distillation: the tuned model's next-token distribution q is held to the pristine base's p.

    L = L_task + weight * tau^2 * sum_t D_t / m          D = KL(p || q) (forward)  or  KL(q || p) (reverse)
    p = softmax(z_base / tau),   q = softmax(z / tau)

z       logits before a token that is read: every token of a sequence after its first
m       such tokens in all sequences of the step, in all micro-batches and processes
tau     temperature (Hinton, Vinyals, Dean, arXiv 1503.02531); its square keeps the gradient's size

With a cache only the k largest of p are known, and the mass r of the rest. D is then taken over these k + 1 outcomes,
with  1 - sum of q over the k  for the rest: a lower bound of the exact divergence, equal to it where k is the
vocabulary.

A classifier is held by the mean over its tokens h of the last hidden states, as the metric `drift` measures it:
D = 1 - cos(h, h_base), one for each sequence; tau is not used. Or by its head, where the base's own was trained:
D as above over labels; of a score (z - z_base)^2, the divergence of normal distributions of variance 1/2. All of this
for classifiers is ours.

Each divergence here is a function of its own with its gradient, which is written where the base's logits lay: nothing
as large as the logits is kept but they, and temporaries are of `CHUNK` numbers.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

CHUNK = 2**18  # numbers of a temporary: it stays in a processor's cache

Direction = Literal["forward", "reverse"]


class _Divergence(torch.autograd.Function):
    """KL of each row of logits, with its gradient in the place of the base's."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, base: torch.Tensor, tau: float, direction: Direction) -> torch.Tensor:
        """Return the divergence of each row  # logits, base: (rows, vocabulary) -> (rows,); `base` is overwritten."""
        divergences = []
        size = max(1, CHUNK // logits.shape[1])
        for z, place in zip(logits.split(size), base.split(size), strict=True):
            log_q, log_p = (torch.log_softmax(soften(part, tau), -1) for part in (z, place))
            p, q = log_p.exp(), log_q.exp()
            if direction == "forward":
                divergences.append(log_p.sub_(log_q).mul_(p).sum(-1))
                place.copy_(q.sub_(p).div_(tau))
            else:
                ratio = log_q.sub_(log_p)
                divergence = (q * ratio).sum(-1)
                divergences.append(divergence)
                place.copy_(ratio.sub_(divergence.unsqueeze(-1)).mul_(q).div_(tau))
        ctx.save_for_backward(base)
        return torch.cat(divergences)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        """Scale the gradient of each row."""
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grads[0].unsqueeze(-1)), None, None, None


def soften(logits: torch.Tensor, tau: float) -> torch.Tensor:
    """Divide by the temperature, in float32; without a copy where nothing changes."""
    return logits.float() if tau == 1 else logits.float() / tau


def divergences(logits: torch.Tensor, base: torch.Tensor, tau: float, direction: Direction) -> torch.Tensor:
    """Return D of each row of logits  # (rows,), float32.

    Args:
        logits: of the tuned model  # (rows, vocabulary).
        base: of the pristine one, of the same type; it is overwritten  # (rows, vocabulary).
        tau: temperature.
        direction: forward KL(p || q), reverse KL(q || p).
    """
    found: torch.Tensor = _Divergence.apply(logits, base, tau, direction)  # type: ignore[no-untyped-call]
    return found


def top_divergences(
    logits: torch.Tensor,
    ids: torch.Tensor,
    log_p: torch.Tensor,
    log_rest: torch.Tensor,
    tau: float,
    direction: Direction,
) -> torch.Tensor:
    """Return D of each row over the base's k likeliest tokens and the rest  # (rows,), float32.

    Args:
        logits: of the tuned model  # (rows, vocabulary).
        ids: the base's k likeliest tokens  # (rows, k).
        log_p: of them  # (rows, k).
        log_rest: log of the mass of all others, -inf for none  # (rows,).
        tau: temperature, at which `log_p` was taken.
        direction: forward KL(p || q), reverse KL(q || p).
    """
    z = soften(logits, tau)
    log_q = z.gather(-1, ids) - z.logsumexp(-1, keepdim=True)  # (rows, k)
    whole = ids.shape[1] == logits.shape[1]
    log_p = torch.cat([log_p, log_rest.unsqueeze(-1)], -1).float().log_softmax(-1)  # 16 bits do not sum to 1
    if whole:
        log_p = log_p[:, :-1]
    else:
        kept = log_q.exp().sum(-1, keepdim=True).clamp(max=1 - 1e-7)
        log_q = torch.cat([log_q, torch.log1p(-kept)], -1)  # (rows, k + 1)
    if direction == "forward":
        return (log_p.exp() * (log_p - log_q)).sum(-1)
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def state_divergences(states: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Return 1 - cosine of each row  # (rows, hidden) -> (rows,)."""
    return 1 - torch.nn.functional.cosine_similarity(states.float(), base.float(), dim=-1)


def score_divergences(scores: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Return the squared difference of each score  # (rows, 1) -> (rows,)."""
    return (scores.float() - base.float()).square().sum(-1)
