"""The r smallest singular triplets of a weight, without the others.

    W = sum_i s_i u_i v_i^T,  s_1 >= ... >= s_k      P Q = sum_{i > k-r} s_i u_i v_i^T      W_world = W - P Q

W: (out, in)    k = min(out, in)    P: (out, r)    Q: (r, in)

The vectors are the eigenvectors of the Gram matrix G (k x k) with the smallest eigenvalues l_i = s_i^2, found by block
Krylov iteration with the inverse of G - shift. The shift begins at 0. Where the eigenvalues that are wanted lie close
together and far from it, as in a wide or tall weight, it moves to the middle of them. All is in float64: the square of
a condition number that the Gram matrix costs leaves 1e-8 of the largest singular value, which is less than what float32
resolves.

The rest R = G X - X L bounds what the iteration still lacks. Its block X is wider than r, so R leads out of the block:
for a distance d from what lies there, a vector turns by at most R / d, and W moves by (s_j + s_i) R / (s_j^2 - s_i^2) =
R / (s_j - s_i). Within the block vectors on both sides of the cut mix through what is outside: that is of second order.
It stops where both are below 2e-7 of |W|_F, or where R is what rounding leaves: then the components around the cut are
the same to within what float64 can tell, and each choice among them is a right one. Where it does not converge, G is
decomposed whole.

The source of the truncation is KaSA (arXiv 2412.06071, section 3; the count of components is PEFT's, see the method);
that only the smallest are computed, and how, is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

WHOLE = 256  # up to so many singular values, it is faster to compute all of them
CHUNK = 1024  # rows of a tall weight that are in float64 at a time
TOLERANCE = 2e-7  # of the weight's norm; the bound that it is held against is far above what was measured
MAX_ROUNDS = 6
STEPS = 6  # of the inverse in each round
EPS = torch.finfo(torch.float64).eps
Solve = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def smallest_components(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return P and Q, whose product is what a weight loses with its smallest singular values.

    Args:
        weight: W, of any floating type; not on the meta device  # (out, in).
        rank: r, less than min(out, in).

    Returns:
        P and Q in float32  # (out, r), (r, in). Of a tall or square weight the rows of Q are orthonormal, of a wide one
        the columns of P.

    Raises:
        ValueError: the weight is not finite.
    """
    assert 0 < rank < min(weight.shape)
    tall = weight if weight.shape[0] >= weight.shape[1] else weight.T  # (n, k)
    vectors = right_vectors(tall, rank)  # (k, r)
    product = torch.cat([rows @ vectors for rows in _exact(tall)]).float()  # (n, r)
    vectors = vectors.float()
    if tall is weight:
        return product, vectors.T.contiguous()
    return vectors.contiguous(), product.T.contiguous()


def right_vectors(tall: torch.Tensor, rank: int) -> torch.Tensor:
    """Return orthonormal right singular vectors of the smallest singular values, in float64  # (k, r)."""
    gram = gram_matrix(tall)
    square = float(gram.trace())  # |W|_F^2
    if not square < float("inf"):
        raise ValueError("the weight has entries that are not finite, or too large to square")
    vectors = _iterate(gram, rank, square) if len(gram) > WHOLE else None
    return torch.linalg.eigh(gram).eigenvectors[:, :rank].contiguous() if vectors is None else vectors


def _exact(tall: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield W in float64, some rows at a time, each time in the same memory  # (rows, k)."""
    room = torch.empty_like(tall[:CHUNK], dtype=torch.float64)
    for rows in tall.split(CHUNK):
        yield room[: len(rows)].copy_(rows)


def gram_matrix(tall: torch.Tensor) -> torch.Tensor:
    """Return W^T W in float64, block by block of its lower half  # (k, k)."""
    size = tall.shape[1]
    gram = torch.zeros(size, size, dtype=torch.float64, device=tall.device)
    width = max(128, -(-size // 8))
    cuts = [(begin, min(begin + width, size)) for begin in range(0, size, width)]
    for rows in _exact(tall):
        for begin, end in cuts:
            gram[begin:end, :end].addmm_(rows[:, begin:end].T, rows[:, :end])
    for begin, end in cuts:
        gram[:begin, begin:end] = gram[begin:end, :begin].T
    return gram


def _iterate(gram: torch.Tensor, rank: int, square: float) -> torch.Tensor | None:
    """Find the eigenvectors of the smallest eigenvalues; None where the iteration does not converge.

    Args:
        gram: G  # (k, k).
        rank: r.
        square: |W|_F^2, the trace of G.
    """
    size = len(gram)
    block = rank + max(8, rank // 2)  # more than r: it converges by the distance to the first that is left out
    if block * (STEPS + 1) > size:
        return None
    generator = torch.Generator().manual_seed(0)  # of its own: a training's random numbers stay what they are
    start = torch.randn(size, block, generator=generator, dtype=torch.float64)
    found: torch.Tensor = torch.linalg.qr(start.to(gram.device)).Q
    rounding = 64 * EPS * square
    shift = -rounding / 64
    solve = _inverse(gram, shift, below=True)
    for _ in range(MAX_ROUNDS):
        if solve is None:
            return None
        basis = _krylov(solve, found)
        image = gram @ basis
        values, mix = torch.linalg.eigh(basis.T @ image)  # Rayleigh-Ritz
        values, mix = values[:block].clamp(min=0), mix[:, :block]
        found = basis @ mix
        rest = image @ mix - found * values  # R
        if float(rest[:, :rank].norm()) <= rounding or _lacking(values, rest, rank) <= TOLERANCE * square**0.5:
            return found[:, :rank].contiguous()
        first, last = float(values[0]), float(values[rank - 1])
        # by how far it is from those that are wanted, beside their spread
        if max(first - shift, shift - last) > max(0.5 * (float(values[-1]) - first), rounding):
            shift, solve = (first + last) / 2, None  # the factors' memory first
            solve = _inverse(gram, shift)
    return None


def _inverse(gram: torch.Tensor, shift: float, *, below: bool = False) -> Solve | None:
    """Return how to apply the inverse of G - shift; None where it has none.

    Args:
        gram: G, left as it is  # (k, k).
        shift: for Cholesky factors below all eigenvalues, for LU factors anywhere.
        below: whether it is below.
    """
    kept = gram.diagonal().clone()
    gram.diagonal().sub_(shift)  # and back: a copy of G would be one more matrix of its size
    by_columns = gram.mT  # as LAPACK goes; G is symmetric
    if below:
        factor, failed = torch.linalg.cholesky_ex(by_columns)
        solve = partial(_solve_twice, factor)
    else:
        factors, pivots, failed = torch.linalg.lu_factor_ex(by_columns)
        solve = partial(torch.linalg.lu_solve, factors, pivots)
    gram.diagonal().copy_(kept)
    return None if bool(failed) else solve


def _solve_twice(factor: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """Apply the inverse by a Cholesky factor, which `torch.cholesky_solve` would copy each time."""
    half = torch.linalg.solve_triangular(factor, block, upper=False)
    solved: torch.Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return solved


def _krylov(solve: Solve, start: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis of what a few steps of the inverse make of a block  # (k, (STEPS + 1) block)."""
    size, width = start.shape
    basis, block = start.new_empty(size, (STEPS + 1) * width), start
    basis[:, :width] = start
    for filled in range(width, basis.shape[1], width):
        block, earlier = solve(block), basis[:, :filled]
        for _ in range(2):  # once is not enough where little is left
            block = torch.linalg.qr(block - earlier @ (earlier.T @ block)).Q
        basis[:, filled : filled + width] = block
    return basis


def _lacking(values: torch.Tensor, rest: torch.Tensor, rank: int) -> float:
    """Bound by how much the truncated weight is off; nan or infinite where that cannot be told.

    Args:
        values: l of the block, ascending; more than r  # (block,).
        rest: R  # (k, block).
        rank: r.
    """
    roots = values.sqrt()  # s
    low, high = rest[:, :rank].norm(), rest[:, rank:].norm()
    beyond = values[-1] - values[rank - 1]
    if high >= 0.5 * beyond:  # the block's last need not be the next of all
        return float("inf")
    outside = low / (roots[-1] - roots[rank - 1])
    inside = low * high / (beyond * (roots[rank] - roots[rank - 1]))
    return float(outside + inside)
