"""Parameter masks: which entries of which parameters may be trained, as sorted flat indices.

A mask is a mapping from parameter name to int64 indices into the flattened parameter, sorted and without repeats. A
parameter may have none. Ties go to the earlier parameter, then to the lower index, so that a mask is a function of
the scores alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from knowtune.common.errors import UserError, nearest
from knowtune.common.files import whole
from knowtune.common.statistics import apportion

if TYPE_CHECKING:
    import numpy as np

Mask = dict[str, torch.Tensor]
Shapes = Mapping[str, tuple[int, ...]]


def num_entries(mask: Mapping[str, torch.Tensor]) -> int:
    """Count the entries of a mask."""
    return sum(len(indices) for indices in mask.values())


def num_parameters(shapes: Shapes) -> int:
    """Count the parameters of shapes."""
    return sum(math.prod(shape) for shape in shapes.values())


def top_entries(scores: Mapping[str, torch.Tensor], num: int, within: Mapping[str, torch.Tensor] | None = None) -> Mask:
    """Choose the `num` entries with the highest scores, over all parameters together (Sung et al. 2021).

    Args:
        scores: parameter name -> one score per entry, any shape; left as they are.
        num: how many, exactly.
        within: where given, only entries of this mask can be chosen.

    Raises:
        ValueError: there are fewer entries than `num`, or a score is NaN.
    """
    flat = {name: tensor.detach().flatten() for name, tensor in scores.items()}
    if within is not None:
        flat = {name: values[within[name].to(values.device)] for name, values in flat.items() if name in within}
    total = sum(len(values) for values in flat.values())
    if not 0 <= num <= total:
        raise ValueError(f"{num} of {total} entries")
    if any(bool(values.isnan().any()) for values in flat.values()):
        raise ValueError("a score is NaN")
    chosen: Mask = {name: torch.empty(0, dtype=torch.int64) for name in scores}
    if num == 0:
        return chosen
    # An entry among the top `num` of all is among the top `num` of its own parameter; only those are compared.
    best = torch.cat([values.topk(min(num, len(values)), sorted=False).values.cpu() for values in flat.values()])
    bound = best.topk(num, sorted=False).values.min()
    ties = num - int((best > bound).sum())  # entries that equal the bound are taken in order, as many as are missing
    for name, values in flat.items():
        taken = values > bound.to(values.device)
        if ties:
            equal = (values == bound.to(values.device)).nonzero().flatten()[:ties]
            taken[equal] = True
            ties -= len(equal)
        positions = taken.nonzero().flatten().cpu()
        chosen[name] = positions if within is None else within[name][positions]
    return chosen


def top_entries_per_parameter(
    scores: Mapping[str, torch.Tensor], num: int, within: Mapping[str, torch.Tensor] | None = None
) -> Mask:
    """Choose `num` entries with equal shares of every parameter: the highest scores within each.

    Shares that are no whole numbers are rounded by the largest remainder, so that `num` is met exactly. With `within`
    they are shares of its entries, so that no share grows from one mask to a smaller one inside it.
    """
    counts = scores if within is None else within
    sizes = {name: counts[name].numel() if name in counts else 0 for name in scores}
    shares = apportion(num, sizes)
    return {name: top_entries({name: scores[name]}, shares[name], within)[name] for name in scores}


def random_entries(
    shapes: Shapes, num: int, generator: np.random.Generator, within: Mapping[str, torch.Tensor] | None = None
) -> Mask:
    """Draw `num` entries uniformly and without repeats from all parameters laid end to end, or from those of a mask."""
    import numpy as np

    ends = np.cumsum(list(sizes_of(shapes, within).values()))
    drawn = np.sort(generator.choice(int(ends[-1]), num, replace=False, shuffle=False))
    cuts = np.searchsorted(drawn, ends)
    mask: Mask = {}
    begin, offset = 0, 0
    for name, end, cut in zip(shapes, ends.tolist(), cuts.tolist(), strict=True):
        positions = torch.from_numpy(drawn[begin:cut] - offset).long()
        mask[name] = positions if within is None or not len(positions) else within[name][positions]
        begin, offset = cut, end
    return mask


def random_entries_per_parameter(
    shapes: Shapes, num: int, generator: np.random.Generator, within: Mapping[str, torch.Tensor] | None = None
) -> Mask:
    """Draw `num` entries with equal shares of every parameter, or of its entries in a mask; uniformly within each."""
    shares = apportion(num, sizes_of(shapes, within))
    mask: Mask = {}
    for name, shape in shapes.items():
        mask |= random_entries({name: shape}, shares[name], generator, within)
    return mask


def rest(mask: Mapping[str, torch.Tensor], shapes: Shapes) -> Mask:
    """Return the entries of all parameters that a mask does not have."""
    left: Mask = {}
    for name, shape in shapes.items():
        kept = torch.ones(math.prod(shape), dtype=torch.bool)
        if name in mask:
            kept[mask[name]] = False
        left[name] = kept.nonzero().flatten()
    return left


def sizes_of(shapes: Shapes, within: Mapping[str, torch.Tensor] | None = None) -> dict[str, int]:
    """Count the entries of every parameter, or those of them that a mask has."""
    if within is None:
        return {name: math.prod(shape) for name, shape in shapes.items()}
    return {name: len(within[name]) if name in within else 0 for name in shapes}


def overlap(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    """Return the share of the first mask's entries that are in the other, too; 1.0 for an empty mask."""
    total = num_entries(one)
    common = sum(
        int(torch.isin(indices, other[name], assume_unique=True).sum())
        for name, indices in one.items()
        if name in other
    )
    return common / total if total else 1.0


def write_mask(path: Path, mask: Mapping[str, torch.Tensor]) -> None:
    """Write a mask as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    with whole(path) as part:
        save_file({name: indices.contiguous() for name, indices in mask.items()}, part)


def read_mask(path: Path) -> Mask:
    """Read a mask.

    Raises:
        UserError: the file is missing, cut short or no mask: indices that are no whole numbers, negative or not
            in order.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        mask: Mask = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not readable ({error}); run the select stage again") from error
    for name, indices in mask.items():
        ordered = indices.dtype == torch.int64 and indices.ndim == 1 and bool((indices.diff() > 0).all())
        if not ordered or (len(indices) and int(indices[0]) < 0):
            raise UserError(
                f"{path}: {name}: not a mask; allowed: int64 indices from 0 on, in order, each once. "
                "Run the select stage again"
            )
    return mask


def require_fits(mask: Mapping[str, torch.Tensor], shapes: Shapes, where: str) -> None:
    """Refuse a mask that names parameters or entries that a model does not have.

    Raises:
        UserError: names the parameter, the nearest one there is, and the sizes.
    """
    for name, indices in mask.items():
        if name not in shapes:
            hint = nearest(name, shapes)
            raise UserError(
                f"{where}: the mask names {name!r}, which this model does not have"
                + (f"; did you mean {hint!r}?" if hint else "")
            )
        size = math.prod(shapes[name])
        if len(indices) and int(indices[-1]) >= size:
            raise UserError(
                f"{where}: the mask names entry {int(indices[-1])} of {name!r}, which has {size}; "
                "it was made for another model"
            )
