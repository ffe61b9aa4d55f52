"""The r smallest singular triplets of a weight, without the others.

    W = sum_i s_i u_i v_i^T,  s_1 >= ... >= s_k      P Q = sum_{i > k-r} s_i u_i v_i^T      W_world = W - P Q

W: (out, in)    k = min(out, in)    P: (out, r)    Q: (r, in)

The vectors are the eigenvectors of the Gram matrix G (k x k) with the smallest eigenvalues l_i = s_i^2, found by block
Krylov iteration with the inverse of G - shift, by its Cholesky factor; the shift moves up to the smallest eigenvalue
where these lie close together, as in a wide or tall weight. All is in float64: the square of a condition number that
the Gram matrix costs leaves 1e-8 of the largest singular value, which is less than what float32 resolves.

The rest R = G X - X L of the iteration bounds what it still lacks: for a distance d from an eigenvalue that is kept, a
vector turns by at most R / d, and W moves by (s_j + s_i) R / (s_j^2 - s_i^2) = R / (s_j - s_i). It stops where that is
below 1e-7 of |W|_F, or where R is what rounding leaves: then the components around the cut are the same to within what
float64 can tell, and each choice among them is a right one. Where it does not converge, G is decomposed whole.

The source of the truncation is KaSA (arXiv 2412.06071, section 3; the count of components is PEFT's, see the method);
that only the smallest are computed, and how, is ours.
"""

from __future__ import annotations

import torch

WHOLE = 256  # up to so many singular values, it is faster to compute all of them
CHUNK = 2048  # rows of a tall weight that are in float64 at a time
TOLERANCE = 1e-7  # of the weight's norm
MAX_ROUNDS = 6
STEPS = 6  # of the inverse in each round
EPS = torch.finfo(torch.float64).eps


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
    product = torch.cat([rows.double() @ vectors for rows in tall.split(CHUNK)]).float()  # (n, r)
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


def gram_matrix(tall: torch.Tensor) -> torch.Tensor:
    """Return W^T W in float64, block by block of its lower half  # (k, k)."""
    size = tall.shape[1]
    gram = torch.zeros(size, size, dtype=torch.float64, device=tall.device)
    width = max(256, -(-size // 8))
    cuts = [(begin, min(begin + width, size)) for begin in range(0, size, width)]
    for rows in tall.split(CHUNK):
        exact = rows.double()
        for begin, end in cuts:
            gram[begin:, begin:end].addmm_(exact[:, begin:].T, exact[:, begin:end])
    for begin, end in cuts:
        gram[begin:end, end:] = gram[end:, begin:end].T
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
    factor, shift = _factor(gram, -rounding / 64), 0.0
    for _ in range(MAX_ROUNDS):
        if factor is None:
            return None
        basis = _krylov(factor, found)
        image = gram @ basis
        values, mix = torch.linalg.eigh(basis.T @ image)  # Rayleigh-Ritz
        values, mix = values[:block].clamp(min=0), mix[:, :block]
        found = basis @ mix
        rest = image @ mix - found * values  # R
        if _converged(values, rest, rank, square, rounding):
            return found[:, :rank].contiguous()
        spread = float(values[-1] - values[0])
        better = float(values[0]) - 2 * float(rest[:, 0].norm()) - 0.1 * spread
        if better - shift > 0.5 * (float(values[0]) - shift):
            closer = _factor(gram, better)
            if closer is not None:
                factor, shift = closer, better
    return None


def _factor(gram: torch.Tensor, shift: float) -> torch.Tensor | None:
    """Return the Cholesky factor of G - shift; None where that is not positive definite."""
    moved = gram.clone()
    moved.diagonal().sub_(shift)
    factor, failed = torch.linalg.cholesky_ex(moved)
    return None if bool(failed) else factor


def _krylov(factor: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis of what a few steps of the inverse make of a block  # (k, (STEPS + 1) block)."""
    basis, block = start, start
    for _ in range(STEPS):
        block = torch.linalg.solve_triangular(factor, block, upper=False)
        block = torch.linalg.solve_triangular(factor.T, block, upper=True)
        for _ in range(2):  # once is not enough where little is left
            block = torch.linalg.qr(block - basis @ (basis.T @ block)).Q
        basis = torch.cat([basis, block], 1)
    return basis


def _converged(values: torch.Tensor, rest: torch.Tensor, rank: int, square: float, rounding: float) -> bool:
    """Say whether what is still lacking moves the truncated weight by too little to matter."""
    lacking = float(rest[:, :rank].norm())
    gap = float(values[rank].sqrt() - values[rank - 1].sqrt())
    next_is_known = float(rest[:, rank].norm()) < 0.5 * float(values[rank] - values[rank - 1])
    return lacking <= rounding or (next_is_known and lacking <= TOLERANCE * square**0.5 * gap)
