"""FISH: a sparse change of a model, values at fixed entries of any of its parameters.

    W' = W + scatter(values, indices)      indices: fixed, chosen before training; values: trained, zero at the start

Sung, Nair, Raffel: "Training Neural Networks with Fixed Sparse Masks" (NeurIPS 2021, arXiv 2111.09839), choose the
entries with the highest Fisher information; here the entries come from anywhere.

Departures from the paper's released code, which trains all weights and multiplies the dense gradients by the mask: the
values are parameters of their own, so that no dense gradient is kept, the optimiser's state has the mask's size, weight
decay pulls toward the base instead of toward zero, and entries outside the mask stay what they were, bit for bit, by
construction. Without weight decay both train the same model.
"""

import peft  # noqa: F401  # first: its import registers this package, which must not be half imported by then

from knowtune.methods.fish.tuner.config import FishConfig
from knowtune.methods.fish.tuner.layer import FishLayer
from knowtune.methods.fish.tuner.model import FishModel

__all__ = ["FishConfig", "FishLayer", "FishModel"]
