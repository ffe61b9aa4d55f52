"""Distillation: the tuned model's next-token distribution q is held to the pristine base's p.

    L = L_task + weight * tau^2 * sum_t D_t / m          D = KL(p || q) (forward)  or  KL(q || p) (reverse)
    p = softmax(z_base / tau),   q = softmax(z / tau)

z       logits before a token that is read: every token of a sequence after its first
m       such tokens in all sequences of the step, in all micro-batches and processes
tau     temperature (Hinton, Vinyals, Dean, arXiv 1503.02531); its square keeps the gradient's size

A token without mass under the distribution that D is a mean over, p forward and q reverse, adds 0: x log x goes to 0
with x. One with mass there and a logit of -inf in the other makes D infinite, as it is: reverse, what the tuned model
writes and the base never does. Gradients stay finite: forward q - p; reverse 0 where D is infinite, for there is none.

With a cache only the k largest of p are known, and the mass of the rest. D is then taken over these k + 1 outcomes: a
lower bound of the exact divergence, equal to it where k is the vocabulary.

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
TINY = 1e-30  # the least that the rest may have

Direction = Literal["forward", "reverse"]


class _Divergence(torch.autograd.Function):
    """KL of each row of logits, with its gradient in the place of the base's."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, base: torch.Tensor, tau: float, direction: Direction) -> torch.Tensor:
        """Return the divergence of each row  # logits, base: (rows, outputs) -> (rows,); `base` is overwritten."""
        divergences = []
        size = max(1, CHUNK // logits.shape[1])
        barred = _is_barred(logits) or _is_barred(base)  # looked up once: masks cost a quarter of the time
        for part, place in zip(logits.split(size), base.split(size), strict=True):
            z, z_base = soften(part, tau), soften(place, tau)
            (q, log_sum), (p, log_sum_base) = _softmax(z), _softmax(z_base)
            ratio = z_base.sub(z).add_(log_sum - log_sum_base)  # log p - log q
            if barred:
                ratio.masked_fill_((p if direction == "forward" else q) == 0, 0)  # 0 log 0 = 0
            if direction == "forward":
                divergences.append(ratio.mul_(p).sum(-1))  # KL(p || q);  its gradient: q - p
                place.copy_(q.sub_(p).div_(tau))
            else:
                divergence = -(q * ratio).sum(-1, keepdim=True)  # KL(q || p);  its gradient: q (log q - log p - KL)
                divergences.append(divergence.squeeze(-1))
                place.copy_(ratio.add_(divergence).mul_(q).div_(-tau))
                if barred:
                    place.masked_fill_(divergence.isinf(), 0)
        ctx.save_for_backward(base)
        return torch.cat(divergences)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        """Scale the gradient of each row."""
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grads[0].unsqueeze(-1)), None, None, None


class _TopDivergence(torch.autograd.Function):
    """KL over the base's k likeliest outcomes and the rest, of some rows of logits."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, rows: torch.Tensor, ids: torch.Tensor, log_p: torch.Tensor, tau: float,
        direction: Direction,
    ) -> torch.Tensor:  # fmt: skip
        """Return the divergence of each of `rows`; see `top_divergences`."""
        divergences, gradient = [], torch.zeros_like(logits)
        size = max(1, CHUNK // logits.shape[1])
        for row, top, log in zip(rows.split(size), ids.split(size), log_p.split(size), strict=True):
            z = soften(logits[row], tau)
            q, log_sum = _softmax(z)
            log_q = z.gather(1, top) - log_sum
            q_top = log_q.exp()
            if log.shape[1] > top.shape[1]:
                rest = q.scatter_(1, top, 0.0).sum(-1, keepdim=True).clamp_(min=TINY)  # summed: 1 - sum is rounding
                log_q, q_top = torch.cat([log_q, rest.log()], 1), torch.cat([q_top, rest], 1)  # (rows, k + 1)
            ratio, p = log_q - log, log.exp()
            ratio.masked_fill_((p if direction == "forward" else q_top) == 0, 0)  # 0 log 0 = 0
            if direction == "forward":
                divergence = -(p * ratio).sum(-1, keepdim=True)
                slope = q_top - p  # of each outcome
            else:
                divergence = (q_top * ratio).sum(-1, keepdim=True)
                slope = (q_top * (ratio - divergence)).masked_fill_(divergence.isinf(), 0)
            divergences.append(divergence.squeeze(-1))
            q.mul_(slope[:, -1:] / q_top[:, -1:])  # the rest's slope, shared out among its tokens
            gradient[row] = q.scatter_(1, top, slope[:, : top.shape[1]]).div_(tau).to(gradient.dtype)
        ctx.save_for_backward(gradient, rows)
        return torch.cat(divergences)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None, None]:
        """Scale the gradient of each row."""
        gradient, rows = ctx.saved_tensors
        scale = torch.zeros(len(gradient), dtype=grads[0].dtype, device=rows.device).index_copy(0, rows, grads[0])
        return gradient.mul_(scale.unsqueeze(-1)), None, None, None, None, None


def _softmax(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return softmax and logsumexp by one exponential each  # (rows, outputs), (rows, 1)."""
    shares = z.softmax(-1)
    return shares, z.amax(-1, keepdim=True) - shares.amax(-1, keepdim=True).log()  # of one outcome, the likeliest


def _is_barred(logits: torch.Tensor) -> bool:
    """Tell whether any outcome has a logit of -inf, so that it never comes."""
    return bool(logits.amin(-1).isneginf().any())


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
    divergence: torch.Tensor = _Divergence.apply(logits, base, tau, direction)  # type: ignore[no-untyped-call]
    return divergence


def top_divergences(
    logits: torch.Tensor,
    rows: torch.Tensor,
    ids: torch.Tensor,
    log_p: torch.Tensor,
    log_rest: torch.Tensor,
    tau: float,
    direction: Direction,
) -> torch.Tensor:
    """Return D of some rows over the base's k likeliest outcomes and the rest  # (read,), float32.

    Args:
        logits: of the tuned model  # (rows, vocabulary).
        rows: the numbers of those that are compared  # (read,).
        ids: the base's k likeliest outcomes there  # (read, k).
        log_p: of them, at this temperature, in any precision: it is made to sum to 1  # (read, k).
        log_rest: of all others; what it is does not matter where k is the vocabulary  # (read,).
        tau: temperature.
        direction: forward KL(p || q), reverse KL(q || p).
    """
    outcomes = log_p if ids.shape[1] == logits.shape[1] else torch.cat([log_p, log_rest.unsqueeze(-1)], -1)
    given = logits, rows, ids, outcomes.float().log_softmax(-1), tau, direction
    divergence: torch.Tensor = _TopDivergence.apply(*given)  # type: ignore[no-untyped-call]
    return divergence


def state_divergences(states: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Return 1 - cosine of each row  # (rows, hidden) -> (rows,)."""
    return 1 - torch.nn.functional.cosine_similarity(states.float(), base.float(), dim=-1)


def score_divergences(scores: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Return the squared difference of each score  # (rows, 1) -> (rows,)."""
    return (scores.float() - base.float()).square().sum(-1)
