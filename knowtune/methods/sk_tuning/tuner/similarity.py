"""How far an adapter has gone from the words that it began at."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cosine_similarity

from knowtune.methods.sk_tuning.tuner.layer import SkTuningLayer
from knowtune.methods.sk_tuning.tuner.reading import NAME, backbone_of
from knowtune.models.hidden_states import evaluating


@torch.no_grad()
def word_similarity(model: Any, adapter_name: str = "default") -> float:
    """Return the mean cosine between an adapter's tokens and the text's; 1 at the start.

    Of a prompt, and of the trained embeddings of a prefix, between embeddings. Of other prefixes between keys and
    between values, all heads of a token together, over all layers.

    Args:
        model: with the adapter, in any mode, which it keeps.
        adapter_name: which one.
    """
    layer: SkTuningLayer = getattr(backbone_of(model.get_base_model()), NAME)
    config = layer.configs[adapter_name]
    words = layer.words(config)
    with evaluating(model):
        if config.variant == "prompt":
            pairs = [(layer.prompt(adapter_name), words)]
        elif config.form == "released":
            pairs = [(layer.adapter(adapter_name).soft_words(words), words)]
        else:
            both = zip(layer.prefix(adapter_name), layer.frozen(adapter_name), strict=True)
            states = [pair for one, other in both if one and other for pair in zip(one, other, strict=True)]
            pairs = [(one.transpose(1, 2).flatten(2), other.transpose(1, 2).flatten(2)) for one, other in states]
    return float(torch.stack([cosine_similarity(a.float(), b.float(), -1).mean() for a, b in pairs]).mean())
