"""Mixtures in memory, of a trained model with its base or of several: each costs a judgement and no training.

At alpha 1 a mixture is the trained model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from knowtune.checkpoints.tied_weights import weights_of
from knowtune.merging.mixtures.base import Mixture, Position
from knowtune.merging.mixtures.interpolate import Interpolate
from knowtune.merging.mixtures.lines import Lines
from knowtune.models.blocks import block_of, stacks_of

ALPHAS = (0.3, 0.5, 0.7, 0.85, 1.0)  # of interpolation
FIRST = (0.0, 0.3, 0.6, 1.0)  # of LiNeS: what the first block keeps; the last one keeps all
MIXTURES: dict[str, dict[float, Mixture]] = {
    "interpolated": {alpha: Interpolate(alpha=alpha) for alpha in ALPHAS},
    "LiNeS": {alpha: Lines(alpha=alpha, beta=1 - alpha) for alpha in FIRST},
}


@contextmanager
def mixed(tuned: Any, base: Any, mixture: Mixture) -> Iterator[Any]:
    """Give the tuned model the mixture's weights inside the context.

    Args:
        tuned: a model with the base's names, folded.
        base: the pristine one.
        mixture: how much of each change is kept.
    """
    stacks, origins, own = stacks_of(tuned), weights_of(base), weights_of(tuned)
    kept = {name: tensor.detach().clone() for name, tensor in own.items()}
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.is_floating_point():
                share = mixture.kept_share(Position(*block_of(name, stacks)))
                if share != 1:  # (b - a) + a is not b
                    tensor.copy_(torch.lerp(origins[name].detach(), kept[name], share))
        try:
            yield tuned
        finally:
            for name, tensor in own.items():
                tensor.copy_(kept[name])


@torch.no_grad()
def average_in(mean: Any, model: Any, number: int) -> Any:
    """Take one more model into a running mean.

    Args:
        mean: the mean of all models before, folded; it changes.
        model: the next one, folded.
        number: how many it is the mean of then.
    """
    own = weights_of(model)
    for name, tensor in weights_of(mean).items():
        if tensor.is_floating_point():
            tensor.lerp_(own[name], 1 / number)
    return mean
