"""The picture of a KaSA adapter: its learned singular values over what the base's weights have.

Of each weight: from its smallest singular value to its largest, the root of their mean square, those that are dropped,
and those of the change eta B diag(ds) A. None of them needs a decomposition of the weight: the dropped ones are the
lengths of P's columns and Q's rows, the largest follows from products, the root mean square is |W|_F / sqrt(k), and the
change's are those of an r x r matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.svg import svg_text

if TYPE_CHECKING:
    import pandas as pd

ADAPTER = "default"
PICTURE = "picture.svg"  # what the report shows of a run
VECTORS, PRODUCTS = 8, 20  # for the largest singular value; less than a percent short where it was tried


@torch.no_grad()
def singular_values(model: Any) -> pd.DataFrame:
    """Return singular values of a model's adapted weights.

    Returns:
        module, what (largest, mean, dropped, learned) and value, in the model's order.
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
        lines += [(name, "largest", largest(weight)), (name, "mean", float(weight.norm() / min(weight.shape) ** 0.5))]
        lines += [(name, "dropped", value) for value in (dropped_out.norm(dim=0) * dropped_in.norm(dim=1)).tolist()]
        lines += [(name, "learned", value) for value in torch.linalg.svdvals(small).tolist()]
    return pd.DataFrame(lines, columns=["module", "what", "value"])


def largest(weight: torch.Tensor) -> float:
    """Return the largest singular value, by products with a few vectors from a fixed start."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(weight.shape[1], min(VECTORS, *weight.shape), generator=generator).to(weight.device)
    for _ in range(PRODUCTS):
        vectors = torch.linalg.qr(weight.T @ (weight @ vectors)).Q
    return float(torch.linalg.svdvals(weight @ vectors)[0])


def draw_singular_values(table: pd.DataFrame) -> str:
    """Draw them as SVG text, a weight beside the other in the order of the model."""
    from matplotlib.figure import Figure

    modules = list(dict.fromkeys(table["module"]))
    table = table.assign(position=table["module"].map({name: i for i, name in enumerate(modules)}))
    table = table[table["value"] > 0]  # a logarithm's axis has no 0
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    axes = figure.subplots()
    kinds = dict(list(table.groupby("what")))
    ends = table[table["what"] != "learned"].groupby("position")["value"].agg(["min", "max"])
    axes.vlines(ends.index, ends["min"], ends["max"], color="0.85", linewidth=4, label="the base's, all")
    for kind, label, marker, color in (
        ("mean", "the base's, root mean square", "_", "0.4"),
        ("dropped", "dropped", ".", "C0"),
        ("learned", "learned", ".", "C1"),
    ):
        if kind in kinds:
            axes.scatter(
                kinds[kind]["position"], kinds[kind]["value"], label=label, marker=marker, color=color, zorder=3
            )
    axes.set_yscale("log")
    axes.set_ylabel("singular values")
    axes.set_xlabel(f"weights in the model's order, {modules[0]} to {modules[-1]}")
    axes.set_title("KaSA: learned singular values over the base's")
    axes.grid(alpha=0.3, axis="y")
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.08))
    return svg_text(figure)
