"""What is dropped, against a whole decomposition in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from knowtune.methods.kasa.tuner import decompose
from knowtune.methods.kasa.tuner.decompose import gram_matrix, right_vectors, smallest_components

LARGE = decompose.WHOLE + 44  # singular values, so that they are not all computed at once
SHAPES = {"tall": (700, LARGE), "wide": (LARGE, 700), "square": (LARGE, LARGE), "small": (20, 12), "flat": (12, 20)}
Spectrum = Callable[[int], torch.Tensor]
SPECTRA: dict[str, Spectrum] = {
    "decaying": lambda k: torch.logspace(1, -3, k, dtype=torch.float64),
    "steep": lambda k: torch.logspace(2, -9, k, dtype=torch.float64),
    "flat": lambda k: torch.linspace(2, 1, k, dtype=torch.float64),
    "close": lambda k: 1 + 1e-4 * torch.linspace(1, 0, k, dtype=torch.float64),
    "a cluster beside the cut": lambda k: torch.cat(
        [torch.linspace(3, 1, k - k // 2, dtype=torch.float64), 0.5 + 1e-3 * torch.linspace(1, 0, k // 2).double()]
    ),
    "rank deficient": lambda k: torch.cat(
        [torch.linspace(2, 1, k // 2, dtype=torch.float64), torch.zeros(k - k // 2, dtype=torch.float64)]
    ),
    "less deficient than r": lambda k: torch.cat(
        [torch.linspace(2, 0.1, k - 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
    ),
}


@pytest.fixture
def iterations(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Collect, of each iteration, whether it converged."""
    ends: list[bool] = []
    iterate = decompose._iterate

    def noted(*args: object) -> torch.Tensor | None:
        vectors = iterate(*args)  # type: ignore[arg-type]
        ends.append(vectors is not None)
        return vectors

    monkeypatch.setattr(decompose, "_iterate", noted)
    return ends


def weight_of(shape: tuple[int, int], spectrum: Spectrum, seed: int = 0) -> torch.Tensor:
    """Make a weight with known singular values, in float64."""
    generator = torch.Generator().manual_seed(seed)
    smaller = min(shape)
    left = torch.linalg.qr(torch.randn(shape[0], smaller, dtype=torch.float64, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(shape[1], smaller, dtype=torch.float64, generator=generator)).Q
    return (left * spectrum(smaller)) @ right.T


def truncated(weight: torch.Tensor, rank: int) -> torch.Tensor:
    """W_world by a whole decomposition in float64."""
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    kept = len(values) - rank
    return (left[:, :kept] * values[:kept]) @ right[:kept]


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("kind", SHAPES)
def test_the_truncated_weight_is_that_of_a_float64_decomposition(kind: str, spectrum: str, iterations: list) -> None:
    rank = 5
    weight = weight_of(SHAPES[kind], SPECTRA[spectrum]).float()  # what a model has
    dropped_out, dropped_in = smallest_components(weight, rank)
    assert dropped_out.dtype == dropped_in.dtype == torch.float32
    assert dropped_out.shape == (weight.shape[0], rank) and dropped_in.shape == (rank, weight.shape[1])
    world = weight.double() - dropped_out.double() @ dropped_in.double()
    assert (world - truncated(weight, rank)).norm() <= 1e-6 * weight.double().norm()
    assert iterations == ([True] if min(weight.shape) > decompose.WHOLE else [])


@pytest.mark.parametrize("kind", SHAPES)
def test_it_drops_r_components_and_their_squares(kind: str) -> None:
    """Eckart-Young; the authors' code drops none of a tall weight's where out <= in - r."""
    weight = weight_of(SHAPES[kind], SPECTRA["decaying"])
    dropped_out, dropped_in = smallest_components(weight, 3)
    world = weight - dropped_out.double() @ dropped_in.double()
    values = torch.linalg.svdvals(weight)
    assert torch.linalg.matrix_rank(world, rtol=1e-6) == len(values) - 3
    assert float((weight - world).square().sum()) == pytest.approx(float(values[-3:].square().sum()), rel=1e-5)


@pytest.mark.parametrize("shape", [(LARGE, LARGE), (700, LARGE)])
def test_a_random_weight_converges(shape: tuple[int, int], iterations: list[bool]) -> None:
    """A wide or tall one has its smallest values close together, a square one reaches down to 0."""
    torch.manual_seed(0)
    weight = torch.randn(shape)
    dropped_out, dropped_in = smallest_components(weight, 16)
    world = weight.double() - dropped_out.double() @ dropped_in.double()
    assert (world - truncated(weight, 16)).norm() <= 1e-6 * weight.norm()
    assert iterations == [True]


@pytest.mark.parametrize(("shape", "factors"), [((LARGE, LARGE), 1), ((LARGE, 4 * LARGE), 2)])
def test_values_close_together_take_one_more_factor(
    shape: tuple[int, int], factors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speed by what costs: one moves the shift into the midst of those that are wanted, and that is enough."""
    inverse, shifts = decompose._inverse, []

    def noted(gram: torch.Tensor, shift: float, **options: bool) -> decompose.Solve | None:
        shifts.append(shift)
        return inverse(gram, shift, **options)

    monkeypatch.setattr(decompose, "_inverse", noted)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    smallest_components(weight, 8)
    assert len(shifts) == factors
    values = torch.linalg.svdvals(weight.double()).square().flip(0)
    assert all(values[0] < shift < values[7] for shift in shifts[1:])


def test_the_gram_matrix_comes_back_to_the_bit() -> None:
    weight = weight_of((700, LARGE), SPECTRA["flat"])
    gram = gram_matrix(weight)
    kept = gram.clone()
    assert decompose._inverse(gram, 0.9, below=True) is not None  # the smallest eigenvalue is 1
    assert decompose._inverse(gram, 1.1, below=True) is None
    solve = decompose._inverse(gram, 1.1)
    assert torch.equal(gram, kept) and solve is not None
    vector = torch.ones(LARGE, 1, dtype=torch.float64)
    assert torch.allclose(gram @ solve(vector) - 1.1 * solve(vector), vector, atol=1e-9)


def test_a_tie_at_the_cut_is_cut_somewhere() -> None:
    """Then there is no right choice, and each that drops as little is one."""
    weight = weight_of((LARGE, LARGE), lambda k: torch.ones(k, dtype=torch.float64))
    dropped_out, dropped_in = smallest_components(weight, 4)
    assert float((dropped_out @ dropped_in).norm()) == pytest.approx(2.0, rel=1e-6)
    world = weight - dropped_out.double() @ dropped_in.double()
    assert torch.linalg.matrix_rank(world, rtol=1e-6) == LARGE - 4


def test_where_it_does_not_converge_all_is_decomposed(monkeypatch: pytest.MonkeyPatch, iterations: list[bool]) -> None:
    monkeypatch.setattr(decompose, "MAX_ROUNDS", 0)
    weight = weight_of((LARGE, LARGE), SPECTRA["decaying"])
    dropped_out, dropped_in = smallest_components(weight, 4)
    world = weight - dropped_out.double() @ dropped_in.double()
    assert (world - truncated(weight, 4)).norm() <= 1e-6 * weight.norm()
    assert iterations == [False]


def test_a_large_rank_decomposes_all(iterations: list[bool]) -> None:
    weight = weight_of((LARGE, LARGE), SPECTRA["decaying"])
    dropped_out, dropped_in = smallest_components(weight, LARGE - 1)
    world = weight - dropped_out.double() @ dropped_in.double()
    assert (world - truncated(weight, LARGE - 1)).norm() <= 1e-6 * weight.norm()
    assert iterations == [False]


@pytest.mark.parametrize("size", [8, LARGE])
def test_twice_is_once(size: int) -> None:
    weight = weight_of((size, size), SPECTRA["flat"])
    once = weight - torch.matmul(*(factor.double() for factor in smallest_components(weight, 3)))
    dropped_out, dropped_in = smallest_components(once, 3)
    assert float((dropped_out @ dropped_in).norm()) <= 1e-6 * float(weight.norm())
    more_out, more_in = smallest_components(once, 5)
    assert (once - (more_out @ more_in).double() - truncated(weight, 5)).norm() <= 1e-6 * weight.norm()


@pytest.mark.parametrize("size", [8, LARGE])
def test_twice_is_once_to_rounding_in_bfloat16(size: int) -> None:
    """The truncated weight, rounded to bfloat16, has small components again: of the rounding's size, 2^-9."""
    weight = weight_of((size, size), SPECTRA["flat"]).bfloat16()
    once = (weight.double() - torch.matmul(*(f.double() for f in smallest_components(weight, 3)))).bfloat16()
    again = float(torch.matmul(*smallest_components(once, 3)).norm()) / float(weight.double().norm())
    assert 0 < again <= 2**-9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("kind", SHAPES)
def test_a_gpu_finds_the_same_truncated_weight(kind: str) -> None:
    weight = weight_of(SHAPES[kind], SPECTRA["decaying"]).float()
    here, there = (smallest_components(w, 5) for w in (weight, weight.cuda()))
    difference = torch.matmul(*here) - torch.matmul(*there).cpu()
    assert difference.norm() <= 1e-6 * weight.norm()


@pytest.mark.parametrize("size", [8, LARGE])
def test_a_weight_of_zeros_loses_zeros(size: int) -> None:
    dropped_out, dropped_in = smallest_components(torch.zeros(size, size + 2), 3)
    assert not (dropped_out @ dropped_in).any()


@pytest.mark.parametrize("size", [8, LARGE])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite(size: int, value: float) -> None:
    weight = torch.zeros(size, size)
    weight[1, 1] = value
    with pytest.raises(ValueError, match=r"^the weight has entries that are not finite"):
        smallest_components(weight, 2)


def test_bfloat16_is_decomposed_in_float64() -> None:
    weight = weight_of((LARGE, 320), SPECTRA["flat"]).bfloat16()
    dropped_out, dropped_in = smallest_components(weight, 3)
    world = weight.double() - dropped_out.double() @ dropped_in.double()
    assert (world - truncated(weight, 3)).norm() <= 1e-6 * weight.double().norm()


def test_the_same_bits_each_time_and_no_random_number_of_the_trainings() -> None:
    weight = weight_of((LARGE, LARGE), SPECTRA["flat"]).float()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = smallest_components(weight, 4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    other = smallest_components(weight, 4)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_weight_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompose, "CHUNK", 100)
    weight = weight_of((700, LARGE), SPECTRA["flat"])
    assert torch.allclose(gram_matrix(weight), weight.T @ weight, rtol=1e-12, atol=1e-12)
    vectors = right_vectors(weight, 3)
    assert torch.allclose(vectors.T @ vectors, torch.eye(3, dtype=torch.float64), atol=1e-10)
