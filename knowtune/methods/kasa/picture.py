"""The picture of a KaSA adapter: its learned singular values over the base's spectrum, weight by weight.

Of each weight: its singular values, of many those at evenly spaced ranks; those that are dropped; and those of the
change eta B diag(ds) A. The dropped ones are the lengths of P's columns and Q's rows, the change's are those of an
r x r matrix. The base's are the roots of the Gram matrix's eigenvalues. Of a large weight these would take longer than
to attach the adapter: there Lanczos quadrature (Golub and Meurant, Matrices, Moments and Quadrature, 2010) estimates
them from a few random vectors. Each vector's tridiagonal matrix has eigenvalues, and the squares of its eigenvectors'
first entries say what share of the spectrum lies there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.svg import svg_text
from knowtune.methods.kasa.tuner.decompose import gram_matrix

if TYPE_CHECKING:
    import pandas as pd

ADAPTER = "default"
PICTURE = "picture.svg"  # what the report shows of a run
SHOWN = 64  # singular values of the base's weight, at most
WHOLE = 2048  # up to so many, all are computed
VECTORS, STEPS = 8, 48  # of the quadrature


@torch.no_grad()
def singular_values(model: Any) -> pd.DataFrame:
    """Return singular values of a model's adapted weights.

    Returns:
        module, what (base, dropped, learned) and value, in the model's order.
    """
    import pandas as pd
    from peft.tuners.tuners_utils import onload_layer

    from knowtune.methods.kasa.tuner.factors import factors, plain_weight
    from knowtune.methods.kasa.tuner.files import kasa_layers

    lines: list[tuple[str, str, float]] = []
    for path, layer in kasa_layers(model, ADAPTER):
        with onload_layer(layer):
            weight = plain_weight(layer).float()
        dropped_out, dropped_in = (factor.float() for factor in factors(layer, ADAPTER))
        up = layer.lora_B[ADAPTER].weight.float() * (layer.lora_diag[ADAPTER].float() * layer.scaling[ADAPTER])
        small = torch.linalg.qr(up).R @ torch.linalg.qr(layer.lora_A[ADAPTER].weight.float().T).R.T  # (r, r)
        name = path.removeprefix("base_model.model.")
        lines += [(name, "base", value) for value in spectrum(weight).tolist()]
        lines += [(name, "dropped", value) for value in (dropped_out.norm(dim=0) * dropped_in.norm(dim=1)).tolist()]
        lines += [(name, "learned", value) for value in torch.linalg.svdvals(small).tolist()]
    return pd.DataFrame(lines, columns=["module", "what", "value"])


def spectrum(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight's singular values at evenly spaced ranks, ascending: all, of few  # (at most SHOWN,)."""
    tall = weight if weight.shape[0] >= weight.shape[1] else weight.T  # (n, k)
    size = tall.shape[1]
    if size <= WHOLE:
        squares = torch.linalg.eigvalsh(gram_matrix(tall)).cpu()
        shares = torch.full_like(squares, 1 / size)
    else:
        squares, shares = quadrature(tall)
    ranks = torch.linspace(0, size - 1, min(SHOWN, size), dtype=shares.dtype)
    found = torch.searchsorted(shares.cumsum(0), (ranks + 0.5) / size).clamp(max=len(squares) - 1)
    roots: torch.Tensor = squares[found].clamp(min=0).sqrt()
    return roots


def quadrature(tall: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate the eigenvalues of W^T W: ascending ones, and the share of all that each stands for.

    Args:
        tall: W  # (n, k), k > STEPS.
    """
    generator = torch.Generator().manual_seed(0)  # of its own: a training's random numbers stay what they are
    vector = torch.randn(tall.shape[1], VECTORS, generator=generator).to(tall.device)
    basis = tall.new_empty(STEPS, *vector.shape)
    matrices = tall.new_zeros(STEPS, STEPS, VECTORS)
    for step in range(STEPS):
        length = vector.norm(dim=0)
        if step:
            matrices[step, step - 1] = matrices[step - 1, step] = length
        basis[step] = vector / length.clamp(min=torch.finfo(length.dtype).tiny)  # 0 where W's rank is used up
        vector = tall.T @ (tall @ basis[step])
        matrices[step, step] = (basis[step] * vector).sum(dim=0)
        for _ in range(2):  # once is not enough where little is left
            parts = torch.einsum("skv,kv->sv", basis[: step + 1], vector)
            vector = vector - torch.einsum("skv,sv->kv", basis[: step + 1], parts)
    values, vectors = torch.linalg.eigh(matrices.permute(2, 0, 1).double().cpu())
    squares, order = values.flatten().sort()
    return squares, vectors[:, 0].square().flatten()[order] / VECTORS


def draw_singular_values(table: pd.DataFrame) -> str:
    """Draw them as SVG text, a weight beside the other in the order of the model."""
    import numpy as np
    from matplotlib.figure import Figure

    modules = list(dict.fromkeys(table["module"]))
    table = table.assign(position=table["module"].map({name: i for i, name in enumerate(modules)}))
    table = table[table["value"] > 0]  # a logarithm's axis has no 0
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    axes = figure.subplots()
    kinds = dict(list(table.groupby("what")))
    base = table[table["what"] == "base"]  # none is left of a weight of zeros
    ends = base["position"] - 0.3, base["position"] + 0.3, base["position"] * math.nan
    lines = np.stack(ends, axis=1).ravel(), base["value"].repeat(3)  # one path for all, and so a small file
    axes.plot(*lines, color="0.6", linewidth=0.6, label="the base's")
    for kind, color in (("dropped", "C0"), ("learned", "C1")):
        if kind in kinds:
            axes.scatter(kinds[kind]["position"], kinds[kind]["value"], label=kind, marker=".", color=color, zorder=3)
    axes.set_yscale("log")
    axes.set_ylabel("singular values")
    axes.set_xlabel(f"weights in the model's order, {modules[0]} to {modules[-1]}")
    axes.set_title("KaSA: learned singular values over the base's")
    axes.grid(alpha=0.3, axis="y")
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.08))
    return svg_text(figure)
